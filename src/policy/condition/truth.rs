//! Kleene's strong three-valued logic, which is what XACML 3.0 §7.11 asks of `AllOf` and `AnyOf`: a definite *false*
//! makes a conjunction false whatever an erring part would have said, since no value of it could make the whole true;
//! otherwise an error makes it an error. A disjunction is the mirror image, and what errs still errs when negated.
//! The order of parts never changes an answer.

use std::rc::Rc;

use crate::policy::attributes::{Attributes, ValueRef};
use crate::policy::schema::Designator;

/// What a condition says of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It could not be evaluated.
    Error(ConditionError),
}

/// The attribute for which a condition could not be evaluated; of several the first by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConditionError {
    /// The attribute's full name: `resource.stage`.
    pub attribute: Rc<str>,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// Why an attribute cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flaw {
    /// The request has none, and it must.
    Missing,
    /// It has a type that it cannot be compared with.
    Type,
}

/// What an attribute that a request lacks means. One that is required is in error either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Absence {
    /// The comparison does not hold.
    #[default]
    NoMatch,
    /// The comparison is in error: under `permit_unless_deny` nothing may be gained by leaving something out.
    Error,
}

/// A request as conditions look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup<'a> {
    pub(crate) attributes: &'a Attributes<'a>,
    pub(crate) absence: Absence,
}

/// A [`Truth`] that borrows, while a condition is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match<'c> {
    Yes,
    No,
    Error(&'c Rc<str>, Flaw),
}

// === impl Truth ===

impl From<Match<'_>> for Truth {
    fn from(said: Match<'_>) -> Self {
        match said {
            Match::Yes => Self::True,
            Match::No => Self::False,
            Match::Error(attribute, flaw) => {
                Self::Error(ConditionError { attribute: Rc::clone(attribute), flaw })
            }
        }
    }
}

// === impl Flaw ===

impl Flaw {
    /// In a word, as `explain` says it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Type => "wrong type",
        }
    }
}

// === impl Lookup ===

impl<'a> Lookup<'a> {
    /// The value of an attribute, if the request has one.
    pub(crate) fn value(self, of: &Designator) -> Option<ValueRef<'a>> {
        self.attributes.lookup(of.category, &of.name)
    }

    /// The value that something else is compared with. An empty text counts as none: as part of a prefix it would
    /// match everything, and two empty attributes say nothing about belonging together.
    pub(crate) fn operand<'c>(self, of: &'c Designator) -> Result<ValueRef<'a>, Match<'c>> {
        self.value(of).filter(|value| *value != ValueRef::Text("")).ok_or_else(|| self.absent(of))
    }

    /// What a comparison with nothing says.
    pub(crate) fn absent(self, of: &Designator) -> Match<'_> {
        if of.required || self.absence == Absence::Error {
            Match::Error(&of.full_name, Flaw::Missing)
        } else {
            Match::No
        }
    }
}

// === impl Match ===

impl<'c> Match<'c> {
    pub(crate) const fn when(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    /// The conjunction.
    pub(crate) fn all(parts: impl Iterator<Item = Self>) -> Self {
        let mut whole = Self::Yes;
        for part in parts {
            match part {
                Self::No => return Self::No,
                Self::Yes => {}
                error @ Self::Error(..) => whole = whole.first(error),
            }
        }
        whole
    }

    /// The disjunction.
    pub(crate) fn any(parts: impl Iterator<Item = Self>) -> Self {
        let mut whole = Self::No;
        for part in parts {
            match part {
                Self::Yes => return Self::Yes,
                Self::No => {}
                error @ Self::Error(..) => whole = whole.first(error),
            }
        }
        whole
    }

    /// The negation.
    pub(crate) const fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Error(..) => self,
        }
    }

    /// Of two errors the first by name, so that the name does not depend on the order of parts either.
    fn first(self, error: Self) -> Self {
        match (self, error) {
            (Self::Error(known, of), Self::Error(name, flaw)) if (known, of) <= (name, flaw) => self,
            _ => error,
        }
    }
}
