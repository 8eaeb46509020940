-- A product is an offer. Value: the median amount of an invoice line with it (quantity x unit price). That is revenue,
-- not margin: the data know no costs. Which lines count, and why codes are upper case: see events.sql.
SELECT
    upper(StockCode) AS offer_id,
    coalesce(mode(trim(Description) ORDER BY Description), upper(StockCode)) AS name,
    round(median(Quantity * UnitPrice), 4) AS value,
    median(UnitPrice) AS unit_price
FROM read_parquet(getvariable('source') || '/online_retail.parquet')
WHERE CustomerID IS NOT NULL
  AND NOT starts_with(InvoiceNo, 'C')
  AND regexp_full_match(StockCode, '[0-9]{5}[A-Za-z]*')
  AND Quantity > 0
  AND UnitPrice > 0
GROUP BY upper(StockCode)
