-- A misspelt topic is an error where SQL publishes: these are the shop's topics.
INSERT INTO redfaust.topics (name) VALUES ('users'), ('orders'), ('notifications')
ON CONFLICT (name) DO NOTHING;
