//! What is said of a pool's breakers by hand: which pool, open, closed or neither, and for how long.

use std::fmt;

use super::said::Said;
use crate::pool::breaker::Held;
use crate::units::{Duration, Name};

/// One order.
pub(super) struct Hold {
    pub(super) pool: Name,
    pub(super) held: Option<(Held, std::time::Duration)>,
}

impl Hold {
    /// `pool=orders&to=open&for=10m`; the error is a sentence.
    pub(super) fn of(said: Said<'_>) -> Result<Self, String> {
        let pool = said.need("pool")?.parse()?;
        let held = match said.need("to")?.as_str() {
            "open" => Held::Open,
            "close" => Held::Closed,
            "auto" => return Ok(Self { pool, held: None }),
            other => return Err(format!("`{other}` is not open, close or auto")),
        };
        Ok(Self { pool, held: Some((held, said.length()?)) })
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
        let said = |query| Hold::of(Said(query)).map(|hold| hold.to_string());
        assert_eq!(said("pool=a&to=open&for=10m").unwrap(), "pool a: no request goes through for 10m");
        assert_eq!(said("to=close&for=90s&pool=a").unwrap(), "pool a: its breakers stay closed for 90s");
        assert_eq!(said("pool=a&to=auto").unwrap(), "pool a: its breakers decide again");
        for wrong in
            ["", "pool=a", "pool=a&to=open", "pool=a&to=shut&for=1s", "pool=a&to=open&for=25h", "pool=a&to=open&for=0s"]
        {
            assert!(Hold::of(Said(wrong)).is_err(), "{wrong}");
        }
    }
}
