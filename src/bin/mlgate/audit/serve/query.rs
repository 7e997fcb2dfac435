//! The page's query string.

use std::fmt::Write as _;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What the page is to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// How far back.
    pub(super) since: Since,
    /// Only this principal.
    pub(super) principal: Option<String>,
    /// Only this model.
    pub(super) model: Option<String>,
}

/// How far back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Since {
    All,
    #[default]
    Day,
    Month,
    Week,
}

// === impl Query ===

impl Query {
    /// What is not known is left out.
    pub(super) fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for (name, value) in text.split('&').filter_map(|part| part.split_once('=')) {
            let spaced = value.replace('+', " ");
            let value = percent_decode_str(&spaced).decode_utf8_lossy().trim().to_owned();
            match name {
                "since" => query.since = Since::of(&value).unwrap_or_default(),
                "principal" => query.principal = Some(value).filter(|value| !value.is_empty()),
                "model" => query.model = Some(value).filter(|value| !value.is_empty()),
                _ => {}
            }
        }
        query
    }

    /// A link to the page that shows this.
    pub(super) fn link(&self) -> String {
        let mut link = format!("/?since={}", self.since.word());
        for (name, value) in [("principal", &self.principal), ("model", &self.model)] {
            if let Some(value) = value {
                let _ = write!(link, "&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
            }
        }
        link
    }

    /// The same for one principal.
    pub(super) fn of_principal(&self, principal: &str) -> Self {
        Self { principal: Some(principal.to_owned()), ..self.clone() }
    }

    /// The same for one model.
    pub(super) fn of_model(&self, model: &str) -> Self {
        Self { model: Some(model.to_owned()), ..self.clone() }
    }
}

// === impl Since ===

impl Since {
    /// All of them, as the page offers them.
    pub(super) const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::All];

    /// In the query.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Day => "24h",
            Self::Month => "30d",
            Self::Week => "7d",
        }
    }

    /// On the page.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::All => "everything",
            Self::Day => "the last 24 hours",
            Self::Month => "the last 30 days",
            Self::Week => "the last 7 days",
        }
    }

    /// Hours; everything has none.
    pub(super) const fn hours(self) -> Option<i64> {
        match self {
            Self::All => None,
            Self::Day => Some(24),
            Self::Month => Some(30 * 24),
            Self::Week => Some(7 * 24),
        }
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|since| since.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_what_it_says() {
        for query in [
            Query::default(),
            Query { since: Since::All, ..Query::default() }
                .of_principal("jwt:corp:a&b=\"<é>")
                .of_model("a+b c"),
        ] {
            let link = query.link();
            assert_eq!(Query::parse(link.strip_prefix("/?").unwrap()), query, "{link}");
            assert!(!link.contains(['"', '<', '>', ' ']), "{link}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        assert_eq!(Query::parse("since=yesterday&principal=&x=1&%&=&model=+"), Query::default());
        assert_eq!(Query::parse("model=%ff%zz").model.as_deref(), Some("\u{fffd}%zz"));
    }
}
