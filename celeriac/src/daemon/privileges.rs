//! Another user and group, given up for good.
//!
//! Source: `maybe_drop_privileges` in celery 5.7 `celery/platforms.py`.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgid, getuid, setgid, setuid};

use super::ProcessError;

/// Becomes that user and group, each a name or a number; without a group, the user's own.
///
/// # Errors
/// [`ProcessError::BadValue`] for names that the machine does not know, [`ProcessError::Privileges`] when the system
/// refuses.
pub(super) fn change(uid: Option<&str>, gid: Option<&str>) -> Result<(), ProcessError> {
    let group = gid.filter(|gid| !gid.is_empty()).map(|gid| Ok((gid, parse_gid(gid)?))).transpose()?;
    let Some(text) = uid.filter(|uid| !uid.is_empty()) else {
        return match group {
            Some((text, gid)) if gid != getgid() || gid != getegid() => {
                setgid(gid).map_err(|error| refused("--gid", text, error))
            }
            _ => Ok(()),
        };
    };
    let (uid, user) = parse_uid(text)?;
    let gid = match (group, &user) {
        (Some((_, gid)), _) => gid,
        (None, Some(user)) => user.gid,
        (None, None) => return Err(bad("--uid", text, "a number that is no user needs --gid as well")),
    };
    if uid == getuid() && uid == geteuid() && gid == getgid() {
        return Ok(());
    }
    // The group first: later there is no right to change it.
    setgid(gid).map_err(|error| refused("--uid", text, error))?;
    groups(user.as_ref(), gid).map_err(|error| refused("--uid", text, error))?;
    setuid(uid).map_err(|error| refused("--uid", text, error))?;
    if !uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
        return Err(refused("--uid", text, Errno::EPERM));
    }
    Ok(())
}

#[cfg(not(target_vendor = "apple"))]
fn groups(user: Option<&User>, gid: Gid) -> nix::Result<()> {
    match user.and_then(|user| CString::new(user.name.as_str()).ok()) {
        Some(name) => nix::unistd::initgroups(&name, gid),
        None => nix::unistd::setgroups(&[gid]),
    }
}

#[cfg(target_vendor = "apple")]
fn groups(_: Option<&User>, _: Gid) -> nix::Result<()> {
    Ok(())
}

fn parse_uid(text: &str) -> Result<(Uid, Option<User>), ProcessError> {
    let user = match text.parse() {
        Ok(number) => {
            let uid = Uid::from_raw(number);
            return Ok((uid, User::from_uid(uid).ok().flatten()));
        }
        Err(_) => User::from_name(text).ok().flatten(),
    };
    let user = user.ok_or_else(|| bad("--uid", text, "no such user"))?;
    Ok((user.uid, Some(user)))
}

fn parse_gid(text: &str) -> Result<Gid, ProcessError> {
    match text.parse() {
        Ok(number) => Ok(Gid::from_raw(number)),
        Err(_) => {
            let group = Group::from_name(text).ok().flatten();
            group.map(|group| group.gid).ok_or_else(|| bad("--gid", text, "no such group"))
        }
    }
}

fn bad(option: &'static str, value: &str, reason: &str) -> ProcessError {
    ProcessError::BadValue { option, value: value.to_owned(), reason: reason.to_owned() }
}

fn refused(option: &'static str, value: &str, error: Errno) -> ProcessError {
    ProcessError::Privileges { option, value: value.to_owned(), reason: error.desc().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_users_and_groups_are_named_and_the_present_ones_change_nothing() {
        let error = change(Some("no-such-user"), None).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.exit_code()), ("--uid no-such-user: no such user", 2));
        let error = change(None, Some("no-such-group")).unwrap_err();
        assert_eq!(error.to_string(), "--gid no-such-group: no such group");
        let (uid, gid) = (getuid().to_string(), getgid().to_string());
        change(Some(&uid), Some(&gid)).unwrap();
        change(None, Some(&gid)).unwrap();
        change(None, None).unwrap();
        change(Some(""), Some("")).unwrap();
    }
}
