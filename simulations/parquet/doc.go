// Package parquet reads and writes the little of Apache Parquet that the simulator
// needs: flat tables, of which it reads columns of numbers and writes columns of whole
// numbers and of text. A library has every encoding, type and nesting, and puts their
// tables into each node's memory (docs/decisions/0029).
//
// Read takes pages of version 1 and 2, plain, from a dictionary or as deltas (what
// parquet-mr, pyarrow and DuckDB write of numbers), without compression or with Snappy,
// gzip or zstd. What it cannot read it names. A file is foreign: every size in it is
// checked against what is there before it is used.
//
// The format is that of github.com/apache/parquet-format, version 2; its metadata is in
// Thrift's compact protocol.
package parquet
