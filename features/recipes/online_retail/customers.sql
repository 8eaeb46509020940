-- Eight customers have invoices from two countries: the first counts.
SELECT
    CustomerID::VARCHAR AS customer_id,
    arg_min(Country, (InvoiceDate, InvoiceNo, Country)) AS country
FROM read_parquet(getvariable('source') || '/online_retail.parquet')
WHERE CustomerID IS NOT NULL
GROUP BY CustomerID
