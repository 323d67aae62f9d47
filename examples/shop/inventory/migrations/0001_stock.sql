CREATE TABLE stock (
    item_id   TEXT    NOT NULL PRIMARY KEY,
    -- What the rules see to, the tables insist on.
    available INTEGER NOT NULL CHECK (available >= 0),
    reserved  INTEGER NOT NULL CHECK (reserved >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE reservations (
    id    TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('HELD', 'CONFIRMED', 'RELEASED'))
) STRICT, WITHOUT ROWID;

CREATE TABLE reservation_lines (
    reservation_id TEXT    NOT NULL REFERENCES reservations (id),
    item_id        TEXT    NOT NULL REFERENCES stock (item_id),
    quantity       INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, item_id)
) STRICT, WITHOUT ROWID;
