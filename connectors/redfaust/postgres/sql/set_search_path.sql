-- What a migration names without a schema lies in public, whatever the role's own path is.
SET LOCAL search_path TO public
