-- What a commit would check, now.
SET CONSTRAINTS ALL IMMEDIATE
