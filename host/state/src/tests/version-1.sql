-- A database of version 1, as sqlite3's .dump writes it.
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE output (run INTEGER PRIMARY KEY, tail BLOB NOT NULL) STRICT;
INSERT INTO "output" VALUES(3,X'6F7574707574206F662033');
CREATE TABLE run (
  run INTEGER PRIMARY KEY, watch TEXT NOT NULL, event TEXT, attempt INTEGER NOT NULL,
  outcome TEXT NOT NULL, words TEXT NOT NULL, exit_code INTEGER, signal INTEGER,
  started_at INTEGER NOT NULL, ended_at INTEGER NOT NULL, duration_us INTEGER NOT NULL,
  max_rss_kib INTEGER NOT NULL, output_bytes INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT;
INSERT INTO "run" VALUES(3,'a','data',2,'exited','exit code 3',3,NULL,1700000000000,1700000001000,1000001,2000,70000,250);
CREATE TABLE running (
  run INTEGER PRIMARY KEY, watch TEXT NOT NULL,
  pid INTEGER NOT NULL, seen INTEGER NOT NULL, boot BLOB NOT NULL,
  started_at INTEGER NOT NULL, attempt INTEGER NOT NULL, event TEXT,
  kind INTEGER, a INTEGER, b INTEGER
) STRICT;
INSERT INTO "running" VALUES(4,'a',1,0,X'000102030405060708090A0B0C0D0E0F',1700000000000,1,'data',1,1,7);
CREATE TABLE watch (
  name TEXT PRIMARY KEY, znode TEXT NOT NULL, watch_type TEXT NOT NULL,
  kind INTEGER, a INTEGER, b INTEGER, digest INTEGER,
  czxid INTEGER, mzxid INTEGER, version INTEGER, run INTEGER, handled_at INTEGER,
  parked_at INTEGER, parked_why TEXT, parked_definition INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO "watch" VALUES('a','/a','data',1,1,7,-2,1,7,-3,5,1700000000123,1700000000000,'it failed',-1);
CREATE INDEX run_of_watch ON run (watch, run, bytes);
CREATE TRIGGER run_forgotten AFTER DELETE ON run BEGIN DELETE FROM output WHERE run = OLD.run; END;
COMMIT;
