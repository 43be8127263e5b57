//! One path and one host for everything: what routes see is what is forwarded.
