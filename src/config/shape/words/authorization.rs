//! The words of `authorization`, and of conditions wherever they stand.

use crate::config::shape::grammar::{ANY, HEADER, NAME, RANGE};
use crate::config::shape::words::{NAMES, SOME_NAMES};
use crate::config::shape::{Choice, Object, Rest, Shape, optional, required};
use crate::config::tree::MAX_INTEGER;

use Shape::{Bool, Either, Integer, List, Test, Text, When};

pub(super) static AUTHORIZATION: Object = Object {
    fields: &[
        optional("roles", ROLES, "Roles and their permissions."),
        optional(
            "combining",
            Shape::Choice(&Choice { built: &["deny_overrides", "first_applicable"], later: &[] }),
            "How policies combine; a profile may say otherwise.",
        ),
        optional("policies", List { of: &Shape::Object(&POLICY), min: 0 }, "Policies on attributes."),
        optional("attributes", DECLARED, "Types of attributes, by their full name."),
    ],
    rest: None,
};

const ROLES: Shape =
    Shape::Object(&Object { fields: &[], rest: Some(Rest { names: &NAME, of: Shape::Object(&ROLE) }) });
const DECLARED: Shape =
    Shape::Object(&Object { fields: &[], rest: Some(Rest { names: &NAME, of: Shape::Object(&ATTRIBUTE) }) });
const TESTS: Shape = Shape::Object(&Object { fields: &[], rest: Some(Rest { names: &NAME, of: Test }) });

static ATTRIBUTE: Object = Object {
    fields: &[
        required(
            "type",
            Shape::Choice(&Choice {
                built: &["text", "number", "boolean", "list", "time", "time_of_day", "address"],
                later: &[],
            }),
            "What it is; `time`, `time_of_day` and `address` are texts of that form.",
        ),
        optional(
            "required",
            Bool,
            "Whether testing it is an error where it is missing; absent means `false`.",
        ),
    ],
    rest: None,
};

static ROLE: Object = Object {
    fields: &[
        optional("inherits", NAMES, "Roles whose permissions it has too."),
        optional(
            "permissions",
            List { of: &Either(&[Text(&NAME), Shape::Object(&PERMISSION)]), min: 0 },
            "Actions (`*` is any), or objects with `actions`, `resource` and `when`.",
        ),
    ],
    rest: None,
};

static PERMISSION: Object = Object {
    fields: &[
        required("actions", SOME_NAMES, "Actions; `*` is any."),
        optional("resource", TESTS, "Conditions on `resource.*`."),
        optional("when", When, "Conditions on attributes by their full name."),
    ],
    rest: None,
};

static POLICY: Object = Object {
    fields: &[
        required("name", Text(&NAME), "Unique; how events and `explain` name it."),
        required(
            "effect",
            Shape::Choice(&Choice { built: &["allow", "deny"], later: &[] }),
            "What it does when it matches.",
        ),
        optional("principal", TESTS, "Conditions on `principal.*`."),
        optional("resource", TESTS, "Conditions on `resource.*`."),
        optional("action", SOME_NAMES, "Actions; absent means any."),
        optional("when", When, "Conditions on attributes by their full name."),
        optional(
            "mode",
            Shape::Choice(&Choice { built: &["enforce", "shadow", "off"], later: &[] }),
            "Whether it counts, or is only recorded; quote \"off\".",
        ),
        optional(
            "obligations",
            Shape::Object(&OBLIGATIONS),
            "What must be done where this policy is a reason to let a request pass.",
        ),
    ],
    rest: None,
};

static OBLIGATIONS: Object = Object {
    fields: &[
        optional("add_headers", HEADERS, "Headers for the upstream; nobody else can send them."),
        optional("charge_tier", Text(&NAME), "The tier whose rates are charged in place of the caller's."),
        optional("audit_inputs", Bool, "Whether the event needs a digest of the request's body in any case."),
    ],
    rest: None,
};

const HEADERS: Shape =
    Shape::Object(&Object { fields: &[], rest: Some(Rest { names: &HEADER, of: Text(&ANY) }) });

/// A `when`: attributes and blocks. What stands within is not listed among the words, since it has no end.
pub static WHEN: Object = Object {
    fields: &[
        optional("all", List { of: &When, min: 1 }, "Every one of these holds."),
        optional("any", List { of: &When, min: 1 }, "At least one of these holds."),
        optional("not", When, "This does not hold."),
    ],
    rest: Some(Rest { names: &NAME, of: Test }),
};

/// What is asked of an attribute, in its long form: all of these must hold.
pub static OPERATORS: Object = Object {
    fields: &[
        optional("equals", OPERAND, "This very value, nothing special in it; or that of another attribute."),
        optional("gt", OPERAND, "Greater; of numbers, times (RFC 3339) and times of day."),
        optional("gte", OPERAND, "Greater or equal."),
        optional("lt", OPERAND, "Less."),
        optional("lte", OPERAND, "Less or equal."),
        optional(
            "in_cidr",
            Either(&[Text(&RANGE), List { of: &Text(&RANGE), min: 1 }]),
            "An address in a range.",
        ),
        optional(
            "contains_all",
            Either(&[Text(&ANY), List { of: &Text(&ANY), min: 1 }]),
            "A list with all of these.",
        ),
        optional("present", Bool, "Whether there is a value."),
        optional("not", Test, "Not this: a value, a list or one operator."),
    ],
    rest: None,
};

const OPERAND: Shape = Either(&[
    Text(&ANY),
    Integer { min: -MAX_INTEGER, max: MAX_INTEGER },
    Bool,
    Shape::Object(&Object { fields: &[required("attribute", Text(&NAME), "Its full name.")], rest: None }),
]);
