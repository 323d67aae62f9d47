CREATE TABLE items (
    id           TEXT    NOT NULL PRIMARY KEY,
    title        TEXT    NOT NULL,
    -- The title as searches see it: case folded.
    title_folded TEXT    NOT NULL,
    description  TEXT    NOT NULL,
    category     TEXT    NOT NULL,
    language     TEXT    NOT NULL,
    currency     TEXT    NOT NULL,
    price_units  INTEGER NOT NULL CHECK (price_units >= 0)
) STRICT, WITHOUT ROWID;

CREATE INDEX items_by_category ON items (category, id);
