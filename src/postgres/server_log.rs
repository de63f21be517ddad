//! What a server wrote to its log about an apply worker: PostgreSQL keeps the reason of a failed apply nowhere else.

use super::connect::Session;

/// How much of the log's end is read, in bytes.
const TAIL: i64 = 256 * 1024;

/// The last error of an apply worker in the server's log, in one line; where the log cannot be read over SQL, where a
/// person finds it. Row values, which stand in other lines of the log, are left out.
pub async fn apply_error(session: &Session) -> String {
    let elsewhere = format!("the server log of {} says why, beside 'logical replication'", session.address);
    let tail = session
        .query_opt(
            "SELECT pg_read_binary_file(f, greatest(s.size - $1, 0), $1)
             FROM pg_current_logfile() f, pg_stat_file(f) s WHERE f IS NOT NULL",
            &[&TAIL],
        )
        .await;
    match tail {
        Ok(Some(row)) => {
            let text = String::from_utf8_lossy(row.get::<_, &[u8]>(0)).into_owned();
            last_apply_error(&text).map_or(elsewhere, |error| format!("its log says {error:?}"))
        }
        Ok(None) | Err(_) => elsewhere,
    }
}

/// The message of the last error that came while remote data were processed.
fn last_apply_error(log: &str) -> Option<String> {
    let lines: Vec<&str> = log.lines().collect();
    let context = lines.iter().rposition(|line| line.contains("processing remote data"))?;
    let near = &lines[context.saturating_sub(4)..context];
    let message = near.iter().rev().find_map(|line| line.split_once("ERROR:"))?.1.trim();
    // "invalid input syntax for type …: <value>" is the one shape of message that ends in a value.
    let message = message.split_once(": \"").map_or(message, |(shape, _)| shape);
    let place = lines[context].split_once("relation \"").and_then(|(_, rest)| rest.split_once('"'));
    Some(match place {
        Some((relation, _)) if !message.contains(relation) => format!("{message} (relation {relation})"),
        _ => message.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_apply_error_is_found_without_its_values() {
        let log = "\
2026-01-01 [1] ERROR:  duplicate key value violates unique constraint \"old\"
2026-01-01 [1] CONTEXT:  processing remote data for replication origin \"pg_1\" during message type \"INSERT\"
2026-01-01 [2] ERROR:  duplicate key value violates unique constraint \"identities_pkey\"
2026-01-01 [2] DETAIL:  Key (id)=(secret) already exists.
2026-01-01 [2] CONTEXT:  processing remote data for replication origin \"pg_1\" during message type \"INSERT\" for replication target relation \"public.identities\" in transaction 7
2026-01-01 [3] LOG:  background worker \"logical replication worker\" (PID 2) exited with exit code 1
2026-01-01 [4] ERROR:  somebody else's";
        let said = last_apply_error(log).unwrap();
        assert_eq!(
            said,
            "duplicate key value violates unique constraint \"identities_pkey\" (relation public.identities)"
        );
        assert_eq!(last_apply_error("2026 ERROR:  nothing to do with it"), None);
        let value = "x ERROR:  invalid input syntax for type uuid: \"abc\"\nx CONTEXT:  processing remote data";
        assert_eq!(last_apply_error(value).unwrap(), "invalid input syntax for type uuid");
    }
}
