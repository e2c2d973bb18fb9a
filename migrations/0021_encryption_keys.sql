-- Keys that others encrypt to, when only this server shall read what they send. The newest generation of each algorithm is published; the
-- one before opens what is under way until it is gone.
CREATE TABLE encryption_keys (
    alg        TEXT NOT NULL,               -- RSA-OAEP | ECDH-ES: the family
    generation BIGINT NOT NULL,
    kid        TEXT NOT NULL UNIQUE,
    public     TEXT NOT NULL,               -- JWK
    private    BYTEA NOT NULL,              -- sealed PKCS #8
    created_at TIMESTAMPTZ NOT NULL,
    retired_at TIMESTAMPTZ,
    gone_at    TIMESTAMPTZ,
    PRIMARY KEY (alg, generation)
);
