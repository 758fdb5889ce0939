INSERT INTO public.mailbox (message_id, recipient, subject, body)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
ON CONFLICT (message_id) DO NOTHING
