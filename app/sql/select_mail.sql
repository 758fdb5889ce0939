SELECT id, recipient, subject, body, received_at FROM public.mailbox WHERE id = $1
