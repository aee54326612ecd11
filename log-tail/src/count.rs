//! Counts and sizes as GNU tools take them: `10`, `4K`, `1MiB`, `2b`.

use thiserror::Error;

/// Why a text is not a count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CountError {
    /// There is no number where one should be.
    #[error("not a number (a number looks like 10, 4K or 1MiB)")]
    NoNumber,
    /// What follows the number is no multiplier.
    #[error(
        "\"{0}\" is no multiplier (b is 512; K, M, G, T, P, E and KiB, MiB ... are powers of 1024; \
         kB, MB ... are powers of 1000)"
    )]
    NoMultiplier(String),
}

/// Reads a whole number with an optional multiplier, as GNU tail 9 does.
///
/// What is greater than [`u64::MAX`] is [`u64::MAX`]: no file has more of anything, so it means "all of it".
pub fn parse(text: &str) -> Result<u64, CountError> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, multiplier) = text.split_at(digits);
    if number.is_empty() {
        return Err(CountError::NoNumber);
    }
    let factor = factor(multiplier).ok_or_else(|| CountError::NoMultiplier(multiplier.to_owned()))?;
    // Only digits are left, so all that can be wrong with them is that they are too many.
    Ok(number.parse::<u64>().map_or(u64::MAX, |number| number.saturating_mul(factor)))
}

fn factor(multiplier: &str) -> Option<u64> {
    let mut letters = multiplier.chars();
    let Some(letter) = letters.next() else { return Some(1) };
    let unit = match letters.as_str() {
        "" | "iB" => 1024,
        "B" => 1000,
        _ => return None,
    };
    let power = match letter {
        'b' if multiplier == "b" => return Some(512),
        'k' | 'K' => 1,
        'm' | 'M' => 2,
        'G' => 3,
        'T' => 4,
        'P' => 5,
        'E' => 6,
        'Z' | 'Y' => return Some(u64::MAX),
        _ => return None,
    };
    Some(u64::pow(unit, power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipliers_are_those_of_gnu_tools() {
        for (text, count) in [
            ("0", 0),
            ("0010", 10),
            ("2b", 1024),
            ("1k", 1024),
            ("1K", 1024),
            ("1KiB", 1024),
            ("1kB", 1000),
            ("3m", 3 << 20),
            ("3MB", 3_000_000),
            ("1MiB", 1 << 20),
            ("2G", 2 << 30),
            ("2GB", 2_000_000_000),
            ("1T", 1 << 40),
            ("1P", 1 << 50),
            ("1EB", 1_000_000_000_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(count), "{text}");
        }
    }

    #[test]
    fn more_than_any_file_holds_is_all_of_it() {
        for text in ["99999999999999999999", "16E", "1Z", "7YB"] {
            assert_eq!(parse(text), Ok(u64::MAX), "{text}");
        }
        assert_eq!(parse("0Z"), Ok(0));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in ["", "K", "+5", "-5", "ten", " 5", "\u{663}"] {
            assert_eq!(parse(text), Err(CountError::NoNumber), "{text}");
        }
        for (text, multiplier) in
            [("5x", "x"), ("5bB", "bB"), ("5KB5", "KB5"), ("5 K", " K"), ("1.5K", ".5K")]
        {
            assert_eq!(parse(text), Err(CountError::NoMultiplier(multiplier.to_owned())), "{text}");
        }
    }
}
