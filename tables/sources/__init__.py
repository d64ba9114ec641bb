"""Reads CSV, Parquet and databases as streams of Arrow record batches."""
