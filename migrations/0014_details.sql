-- Types of authorization_details (RFC 9396): what an app may ask for in detail, and in which words people are asked.
CREATE TABLE details_types (
    type       TEXT PRIMARY KEY,
    definition TEXT NOT NULL,                     -- JSON: schema, and words by language
    created_at TIMESTAMPTZ NOT NULL
);
