-- With pgvector at hand, memories get the column that they have in the old database.
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'vector') THEN
        BEGIN
            CREATE EXTENSION IF NOT EXISTS vector;
            ALTER TABLE memories ADD COLUMN IF NOT EXISTS embedding vector(1536);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE NOTICE 'memories.embedding is left out: pgvector is not installed in this database';
        END;
    END IF;
END $$;
