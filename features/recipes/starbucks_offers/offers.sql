-- An offer's value is the least that its taker spends (difficulty); what the reward costs is an attribute, not deducted.
-- Informational offers have no spend to reach: value 0. The app's channels are attributes, not restrictions.
SELECT
    id AS offer_id,
    CASE offer_type
        WHEN 'bogo' THEN format('Buy one, get one: spend ${} within {} days, get ${}', difficulty, duration::INTEGER, reward)
        WHEN 'discount' THEN format('Discount: spend ${} within {} days, get ${} off', difficulty, duration::INTEGER, reward)
        ELSE format('Product news for {} days', duration::INTEGER)
    END AS name,
    offer_type AS category,
    difficulty AS value,
    offer_type,
    difficulty,
    reward,
    duration AS duration_days,
    list_contains(channels, 'email') AS channel_email,
    list_contains(channels, 'mobile') AS channel_mobile,
    list_contains(channels, 'social') AS channel_social,
    list_contains(channels, 'web') AS channel_web
FROM read_json(getvariable('source') || '/portfolio.json*', format = 'newline_delimited', columns = {
    'id': 'VARCHAR', 'offer_type': 'VARCHAR', 'difficulty': 'INTEGER', 'reward': 'INTEGER', 'duration': 'DOUBLE',
    'channels': 'VARCHAR[]'
})
