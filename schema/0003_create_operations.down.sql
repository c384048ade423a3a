-- Takes ACCESS EXCLUSIVE on both tables. What operators did is kept, not who
-- they were.
DROP TABLE operations;
ALTER TABLE audit DROP COLUMN author;
