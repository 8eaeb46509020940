-- Each line of an invoice is a purchase; an invoice is a session. Left out:
-- * lines without a customer;
-- * cancellations (InvoiceNo C...): taking goods back is no event of ours (`cancel` ends the relation), and a purchase
--   of a negative amount would be wrong. The purchase itself stays: it was made when it was made;
-- * codes that are not products: postage, bank charges, manual corrections, vouchers. Products are five digits and
--   letters; 85123a and 85123A are one product;
-- * lines that cost nothing.
WITH lines AS (
    SELECT *, row_number() OVER (PARTITION BY InvoiceNo, upper(StockCode) ORDER BY Quantity, UnitPrice, InvoiceDate) AS nth
    FROM read_parquet(getvariable('source') || '/online_retail.parquet')
    WHERE CustomerID IS NOT NULL
      AND NOT starts_with(InvoiceNo, 'C')
      AND regexp_full_match(StockCode, '[0-9]{5}[A-Za-z]*')
      AND Quantity > 0
      AND UnitPrice > 0
)
SELECT
    concat_ws(':', InvoiceNo, upper(StockCode), nth) AS event_id,
    'purchase' AS event_type,
    CustomerID::VARCHAR AS customer_id,
    InvoiceDate AT TIME ZONE getvariable('time_zone') AS occurred_at,
    upper(StockCode) AS offer_id,
    InvoiceNo AS session_id,
    Quantity * UnitPrice::DECIMAL(18, 4) AS value,
    getvariable('currency') AS currency
FROM lines
