//! How many tokens of language models may be used.

use crate::read::Fields;

section! {
    /// Limits of the tokens (of questions and answers together) that language models may use. A call that begins below a
    /// limit may end above it; the next one is refused. Near a limit, calls at the same time wait for each other. Days are
    /// those of UTC.
    pub struct BudgetConfig {
        /// For each user, in a day.
        omitted user_tokens_per_day: Option<u64>,
        /// For each user, in all.
        omitted user_tokens_total: Option<u64>,
        /// For each cube, in a day.
        omitted cube_tokens_per_day: Option<u64>,
        /// For each cube, in all.
        omitted cube_tokens_total: Option<u64>,
    }
    check: check_budget;
}

fn check_budget(budget: &BudgetConfig, fields: &mut Fields<'_, '_>) {
    let limits = [
        ("user_tokens_per_day", budget.user_tokens_per_day),
        ("user_tokens_total", budget.user_tokens_total),
        ("cube_tokens_per_day", budget.cube_tokens_per_day),
        ("cube_tokens_total", budget.cube_tokens_total),
    ];
    for (key, limit) in limits {
        if limit == Some(0) {
            fields.refuse(key, "must be at least 1; leave it out for no limit");
        }
    }
}
