-- Age 118 is how the app writes "not given"; those members gave neither gender nor income.
SELECT
    id AS customer_id,
    CASE WHEN age <> 118 THEN age END AS age,
    income,
    gender,
    strptime(became_member_on, '%Y%m%d')::DATE AS became_member_on
FROM read_json(getvariable('source') || '/profile.json*', format = 'newline_delimited', columns = {
    'id': 'VARCHAR', 'age': 'INTEGER', 'income': 'DOUBLE', 'gender': 'VARCHAR', 'became_member_on': 'VARCHAR'
})
