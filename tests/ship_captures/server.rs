//! With the real shipping process and a real S3 interface on loopback.
