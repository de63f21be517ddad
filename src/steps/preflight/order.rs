//! Which order a run takes, and why.

use crate::apps::{App, Pair, earned_from, pair};
use crate::migration::{Order, settings::OrderChoice};

/// The order, the pair of releases behind it, and the reason in one clause.
#[derive(Clone, Debug)]
pub struct ChosenOrder {
    /// The order.
    pub order: Order,
    /// The pair whose fills apply; `None` in the documented order.
    pub pair: Option<&'static Pair>,
    /// Why.
    pub reason: String,
}

/// Decides from the config option, the source's release and the target's, if it is known already
/// (a refreshed application that waits for its migration does not answer, so it mostly is not).
///
/// # Errors
/// `order=migrate-first` for a pair that is not declared: what was found.
pub fn choose(app: &App, choice: OrderChoice, from: Option<&str>, to: Option<&str>) -> Result<ChosenOrder, String> {
    let documented = |reason: String| ChosenOrder { order: Order::Documented, pair: None, reason };
    let migrate_first =
        |pair: &'static Pair, reason: String| ChosenOrder { order: Order::MigrateFirst, pair: Some(pair), reason };
    if choice == OrderChoice::Documented {
        return Ok(documented("order=documented".to_owned()));
    }
    let Some(from) = from else {
        let reason = "the source's release is not known".to_owned();
        return if choice == OrderChoice::MigrateFirst { Err(reason) } else { Ok(documented(reason)) };
    };
    // A target that still runs the source's release is to be refreshed; where to, nobody knows yet.
    let to = to.filter(|to| !app.serves(to, from));
    let Some(to) = to else {
        let roads = earned_from(app, from);
        let reached = roads.iter().map(|road| road.to).collect::<Vec<_>>().join(" or ");
        return match (roads.last(), choice) {
            (Some(road), _) => Ok(migrate_first(road, format!("{} {from} → {reached} earned it", app.title))),
            (None, OrderChoice::MigrateFirst) => Err(format!("no release is known to be reached from {from} that way")),
            (None, _) => Ok(documented(format!("no release has earned migrate-first from {} {from}", app.title))),
        };
    };
    match (pair(app, from, to), choice) {
        (Some(road), _) if road.earned => Ok(migrate_first(road, format!("{} {from} → {to} earned it", app.title))),
        (Some(road), OrderChoice::MigrateFirst) => {
            Ok(migrate_first(road, format!("order=migrate-first; {from} → {to} is declared, not yet proven")))
        }
        (None, OrderChoice::MigrateFirst) => Err(format!("{from} → {to} is not declared for migrate-first")),
        _ => Ok(documented(format!("{} {from} → {to} has not earned migrate-first", app.title))),
    }
}

/// The same where the target keeps the source's release: with nothing to migrate, everything the target has to prove it
/// proves outside the outage.
pub fn keeping(choice: OrderChoice) -> ChosenOrder {
    match choice {
        OrderChoice::Documented => {
            ChosenOrder { order: Order::Documented, pair: None, reason: "order=documented".to_owned() }
        }
        _ => ChosenOrder {
            order: Order::MigrateFirst,
            pair: None,
            reason: "the target keeps the source's release".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::KRATOS;

    #[test]
    fn auto_takes_migrate_first_only_where_it_is_earned() {
        let order = |choice, from, to| choose(&KRATOS, choice, from, to).map(|chosen| chosen.order);
        let auto = OrderChoice::Auto;
        assert_eq!(order(auto, Some("1.0.0"), Some("1.3.1")), Ok(Order::MigrateFirst));
        assert_eq!(order(auto, Some("1.0.0"), None), Ok(Order::MigrateFirst));
        assert_eq!(order(auto, Some("1.0.0"), Some("1.0.0")), Ok(Order::MigrateFirst));
        assert_eq!(order(auto, Some("25.4.0"), Some("26.2.0")), Ok(Order::MigrateFirst));
        assert_eq!(order(auto, Some("26.2.0"), Some("25.4.0")), Ok(Order::Documented));
        assert_eq!(order(auto, Some("26.2.0"), None), Ok(Order::Documented));
        assert_eq!(order(auto, None, Some("1.3.1")), Ok(Order::Documented));
        assert_eq!(order(OrderChoice::Documented, Some("1.0.0"), Some("1.3.1")), Ok(Order::Documented));
    }

    #[test]
    fn migrate_first_by_hand_needs_a_declared_pair() {
        let chosen = |from, to| choose(&KRATOS, OrderChoice::MigrateFirst, from, to);
        assert_eq!(chosen(Some("25.4.0"), Some("26.2.0")).unwrap().pair.unwrap().fills.len(), 2);
        assert!(chosen(Some("26.2.0"), Some("25.4.0")).is_err());
        assert!(chosen(Some("26.2.0"), None).is_err());
        assert!(chosen(None, None).is_err());
    }
}
