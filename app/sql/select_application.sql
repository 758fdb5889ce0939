SELECT id FROM public.application
