-- Received is our impression (the offer reached the member), viewed a click, completed an accept, a transaction a purchase.
-- The log has no ids: one is made from the row's content, and rows with equal content are counted (two receipts of one
-- offer that one transaction completes are two rows that differ in nothing).
WITH log AS (
    SELECT
        person,
        event,
        time,
        coalesce(value ->> '$."offer id"', value ->> '$.offer_id') AS offer_id,
        (value ->> '$.amount')::DOUBLE AS amount,
        (value ->> '$.reward')::DOUBLE AS reward
    FROM read_json(getvariable('source') || '/transcript.json*', format = 'newline_delimited', columns = {
        'person': 'VARCHAR', 'event': 'VARCHAR', 'value': 'JSON', 'time': 'INTEGER'
    })
), numbered AS (
    SELECT *, row_number() OVER (PARTITION BY person, event, time, offer_id, amount, reward) AS nth FROM log
)
SELECT
    md5(concat_ws('|', person, event, time, offer_id, amount, reward, nth)) AS event_id,
    CASE event
        WHEN 'offer received' THEN 'impression'
        WHEN 'offer viewed' THEN 'click'
        WHEN 'offer completed' THEN 'accept'
        WHEN 'transaction' THEN 'purchase'
        ELSE event
    END AS event_type,
    person AS customer_id,
    getvariable('epoch')::TIMESTAMPTZ + to_hours(time) AS occurred_at,
    offer_id,
    amount AS value,
    CASE WHEN amount IS NOT NULL THEN getvariable('currency') END AS currency,
    CASE WHEN reward IS NOT NULL THEN json_object('reward', reward) END AS properties
FROM numbered
