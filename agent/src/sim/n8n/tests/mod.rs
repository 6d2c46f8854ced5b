//! The tables of the real n8n, row by row.
