//! What is said of a pool's breakers by hand: which pool, open, closed or neither, and for how long.

use std::fmt;

use crate::pool::breaker::{Held, LONGEST};
use crate::units::{Duration, Name};

/// One order.
pub(super) struct Hold {
    pub(super) pool: Name,
    pub(super) held: Option<(Held, std::time::Duration)>,
}

impl Hold {
    /// `pool=orders&to=open&for=10m`; the error is a sentence.
    pub(super) fn of(query: &str) -> Result<Self, String> {
        let said = |key: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == key);
        let value = |key: &str| said(key).map(|(_, value)| value).ok_or_else(|| format!("`{key}` is missing"));
        let pool = value("pool")?.parse()?;
        let held = match value("to")? {
            "open" => Held::Open,
            "close" => Held::Closed,
            "auto" => return Ok(Self { pool, held: None }),
            other => return Err(format!("`{other}` is not open, close or auto")),
        };
        let length = value("for")?.parse::<Duration>()?.get();
        if length.is_zero() || length > LONGEST {
            return Err("`for` goes from 1ms to 24h".to_owned());
        }
        Ok(Self { pool, held: Some((held, length)) })
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = &self.pool;
        match self.held {
            Some((Held::Open, length)) => {
                write!(f, "pool {pool}: no request goes through for {}", Duration::from(length))
            }
            Some((Held::Closed, length)) => {
                write!(f, "pool {pool}: its breakers stay closed for {}", Duration::from(length))
            }
            None => write!(f, "pool {pool}: its breakers decide again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_whole_or_none() {
        let said = |query| Hold::of(query).map(|hold| hold.to_string());
        assert_eq!(said("pool=a&to=open&for=10m").unwrap(), "pool a: no request goes through for 10m");
        assert_eq!(said("to=close&for=90s&pool=a").unwrap(), "pool a: its breakers stay closed for 90s");
        assert_eq!(said("pool=a&to=auto").unwrap(), "pool a: its breakers decide again");
        for wrong in
            ["", "pool=a", "pool=a&to=open", "pool=a&to=shut&for=1s", "pool=a&to=open&for=25h", "pool=a&to=open&for=0s"]
        {
            assert!(Hold::of(wrong).is_err(), "{wrong}");
        }
    }
}
