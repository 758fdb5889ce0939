-- Returns the id that holds: the one that was here before, or this one.
WITH claimed AS (
    INSERT INTO public.application (id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id
)
SELECT id FROM claimed UNION ALL SELECT id FROM public.application LIMIT 1
