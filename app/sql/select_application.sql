SELECT id FROM application
