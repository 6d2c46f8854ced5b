//! SQLite's calls -> a [`Disk`]. The one file of the workspace that is unsafe: SQLite takes a file layer as C functions.
//!
//! Registered once per process and for ever, so that no connection can outlive it. A disk is found by its path. It
//! declares what SQLite's own layer for Unix does: sectors of 4 KiB, and that a write changes no bytes beside it.
#![allow(unsafe_code, reason = "SQLite's interface for file layers is C functions with raw pointers")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};

use rusqlite::ffi;

use crate::model::{Failure, Op, Platter, Survival};

/// The name under which SQLite knows the layer.
pub const VFS: &str = "genesis-power";
const VFS_C: &CStr = c"genesis-power";

/// Where SQLite finds the disks.
const ROOT: &str = "/power/";

static DISKS: Mutex<BTreeMap<u64, Weak<Mutex<State>>>> = Mutex::new(BTreeMap::new());
static NUMBERS: AtomicU64 = AtomicU64::new(1);
static REGISTERED: Once = Once::new();

/// A disk. Clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    number: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    platter: Platter,
    /// Changes asked for since the disk exists.
    ops: u64,
    log: Option<Vec<Op>>,
    cut_at: Option<u64>,
    fail: Option<(u64, Failure)>,
    is_off: bool,
    ignores_sync: bool,
    /// Files that were open when the power went stay unusable.
    epoch: u64,
}

impl State {
    fn change(&mut self, op: Op) -> c_int {
        if self.is_off {
            return ffi::SQLITE_IOERR;
        }
        self.ops += 1;
        let is_sync = matches!(op, Op::Sync(_));
        match self.fail {
            Some((from, Failure::Full)) if self.ops >= from && matches!(op, Op::Write(..)) => return ffi::SQLITE_FULL,
            Some((from, Failure::Broken)) if self.ops >= from => {
                return if is_sync { ffi::SQLITE_IOERR_FSYNC } else { ffi::SQLITE_IOERR_WRITE };
            }
            Some(_) | None => {}
        }
        let is_cut = self.cut_at == Some(self.ops);
        if let Some(log) = &mut self.log {
            log.push(op.clone());
        }
        // A write is on its way when the power goes, a sync has not come back.
        if !(is_sync && (is_cut || self.ignores_sync)) {
            self.platter.apply(&op);
        }
        self.is_off = is_cut;
        if is_cut { ffi::SQLITE_IOERR } else { ffi::SQLITE_OK }
    }
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::with(Platter::default())
    }

    /// A disk with this content.
    pub fn with(platter: Platter) -> Self {
        register();
        let state = Arc::new(Mutex::new(State { platter, ..State::default() }));
        let mut disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
        // A number is never used again: a path of a disk that is gone leads nowhere.
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        disks.retain(|_, state| state.strong_count() > 0);
        disks.insert(number, Arc::downgrade(&state));
        Self { number, state }
    }

    /// The path of a file on it, for SQLite with [`VFS`].
    pub fn path(&self, file: &str) -> PathBuf {
        format!("{ROOT}{}/{file}", self.number).into()
    }

    /// Begins to keep every change.
    pub fn record(&self) {
        self.lock().log = Some(vec![]);
    }

    /// The changes kept so far.
    pub fn recorded(&self) -> Vec<Op> {
        self.lock().log.clone().unwrap_or_default()
    }

    /// How many changes were kept so far.
    pub fn recorded_count(&self) -> usize {
        self.lock().log.as_ref().map_or(0, Vec::len)
    }

    /// Changes asked for so far.
    pub fn ops(&self) -> u64 {
        self.lock().ops
    }

    /// Cuts the power at the n-th change, counted from the disk's first one.
    pub fn cut_at(&self, op: u64) {
        self.lock().cut_at = Some(op);
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.lock().is_off
    }

    /// Switches the power off and on; what was not synced is gone as `survival` has it.
    pub fn power_cycle(&self, survival: Survival) {
        let mut state = self.lock();
        state.platter = state.platter.cut(survival);
        (state.is_off, state.cut_at) = (false, None);
        state.epoch += 1;
    }

    /// Lets changes fail from the n-th on, until [`Disk::heal`].
    pub fn fail_from(&self, op: u64, failure: Failure) {
        self.lock().fail = Some((op, failure));
    }

    /// Lets changes succeed again; answers whether any had failed.
    pub fn heal(&self) -> bool {
        let mut state = self.lock();
        let ops = state.ops;
        state.fail.take().is_some_and(|(from, _)| ops >= from)
    }

    /// Answers every sync at once without doing it, as a cheap drive does.
    pub fn ignore_sync(&self) {
        self.lock().ignores_sync = true;
    }

    /// What is on it now, as SQLite sees it.
    pub fn platter(&self) -> Platter {
        self.lock().platter.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk and the file of a path.
    fn find(path: &str) -> Option<(Self, String)> {
        let (number, file) = path.strip_prefix(ROOT)?.split_once('/')?;
        let number = number.parse().ok()?;
        let disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
        let state = disks.get(&number)?.upgrade()?;
        Some((Self { number, state }, file.to_owned()))
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

/// An open file, in the memory that SQLite gives it.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    handle: *mut Handle,
}

struct Handle {
    disk: Disk,
    name: String,
    epoch: u64,
}

impl Handle {
    fn change(&self, op: Op) -> c_int {
        let mut state = self.disk.lock();
        if state.epoch == self.epoch { state.change(op) } else { ffi::SQLITE_IOERR }
    }
    /// The state for reading, unless the power is or was off.
    fn readable(&self) -> Option<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        (!state.is_off && state.epoch == self.epoch).then_some(state)
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    // Version 1 has no shared memory: WAL then needs the exclusive mode, which is what the journal uses.
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

fn register() {
    REGISTERED.call_once(|| {
        let vfs = Box::new(ffi::sqlite3_vfs {
            iVersion: 1,
            szOsFile: c_int::try_from(size_of::<OpenFile>()).unwrap_or(c_int::MAX),
            mxPathname: 256,
            pNext: std::ptr::null_mut(),
            zName: VFS_C.as_ptr(),
            pAppData: std::ptr::null_mut(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: Some(last_error),
            xCurrentTimeInt64: None,
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        });
        // SAFETY: the structure is complete for version 1 and, being leaked, stays valid and unmoved for ever.
        let code = unsafe { ffi::sqlite3_vfs_register(Box::leak(vfs), 0) };
        assert_eq!(code, ffi::SQLITE_OK, "SQLite takes the file layer");
    });
}

/// A path as SQLite gives it; `None` for a temporary file.
///
/// # Safety
/// `name` is null or a C string that lives as long as the answer is used.
unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: not null, and a C string by this function's own condition.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

/// # Safety
/// `file` was opened by [`open`] and is not closed.
unsafe fn handle<'a>(file: *mut ffi::sqlite3_file) -> &'a Handle {
    // SAFETY: SQLite gave `open` room for an `OpenFile`, which begins with the `sqlite3_file`; `open` stored a leaked
    // box there, which only `close` takes back. Nothing makes a mutable reference to it meanwhile.
    unsafe { &*(*file.cast::<OpenFile>()).handle }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let file = file.cast::<OpenFile>();
    // SAFETY: SQLite gives `szOsFile` bytes, aligned for any type. Without methods it never calls us for this file.
    unsafe { (*file).base.pMethods = std::ptr::null() };
    // SAFETY: SQLite passes null or a C string that lives as long as the file.
    let found = match unsafe { text(name) } {
        Some(path) => Disk::find(path),
        // A temporary file lives on a disk of its own that nobody cuts.
        None => Some((Disk::new(), "temporary".to_owned())),
    };
    let Some((disk, name)) = found else { return ffi::SQLITE_CANTOPEN };
    let (is_off, is_there, epoch) = {
        let state = disk.lock();
        (state.is_off, state.platter.has(&name), state.epoch)
    };
    let handle = Handle { disk, name: name.clone(), epoch };
    if is_off || (!is_there && flags & ffi::SQLITE_OPEN_CREATE == 0) {
        return ffi::SQLITE_CANTOPEN;
    }
    if !is_there {
        let code = handle.change(Op::Create(name));
        if code != ffi::SQLITE_OK {
            return ffi::SQLITE_CANTOPEN;
        }
    }
    // SAFETY: the room is ours as above; `out_flags` is null or points to an int.
    unsafe {
        (*file).handle = Box::into_raw(Box::new(handle));
        (*file).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes an open file once; `open` put a leaked box there.
    drop(unsafe { Box::from_raw((*file.cast::<OpenFile>()).handle) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, buffer: *mut c_void, amount: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite calls it between `open` and `close`.
    let handle = unsafe { handle(file) };
    let (Ok(amount), Ok(offset)) = (usize::try_from(amount), usize::try_from(offset)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: SQLite's buffer holds `amount` bytes and is its own until this returns.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), amount) };
    let Some(state) = handle.readable() else { return ffi::SQLITE_IOERR_READ };
    let content = state.platter.content(&handle.name);
    let there = content.get(offset..).unwrap_or_default();
    let there = &there[..there.len().min(amount)];
    buffer[..there.len()].copy_from_slice(there);
    // What the file does not hold is zero, which SQLite asks for.
    buffer[there.len()..].fill(0);
    if there.len() == amount { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, buffer: *const c_void, amount: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite calls it between `open` and `close`.
    let handle = unsafe { handle(file) };
    let (Ok(amount), Ok(offset)) = (usize::try_from(amount), usize::try_from(offset)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: SQLite's buffer holds `amount` bytes and does not change until this returns.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), amount) };
    handle.change(Op::Write(handle.name.clone(), offset, bytes.into()))
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: SQLite calls it between `open` and `close`.
    let handle = unsafe { handle(file) };
    let Ok(size) = usize::try_from(size) else { return ffi::SQLITE_IOERR_TRUNCATE };
    handle.change(Op::Truncate(handle.name.clone(), size))
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite calls it between `open` and `close`.
    let handle = unsafe { handle(file) };
    handle.change(Op::Sync(handle.name.clone()))
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: SQLite calls it between `open` and `close`.
    let handle = unsafe { handle(file) };
    let Some(state) = handle.readable() else { return ffi::SQLITE_IOERR_FSTAT };
    // SAFETY: SQLite passes a pointer to its own integer.
    unsafe { *size = i64::try_from(state.platter.content(&handle.name).len()).unwrap_or(i64::MAX) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: SQLite passes a C string that lives until this returns.
    let Some((disk, name)) = unsafe { text(name) }.and_then(Disk::find) else { return ffi::SQLITE_IOERR_DELETE };
    let mut state = disk.lock();
    if !state.platter.has(&name) {
        return ffi::SQLITE_IOERR_DELETE_NOENT;
    }
    state.change(Op::Delete(name, sync_dir != 0))
}

unsafe extern "C" fn access(_: *mut ffi::sqlite3_vfs, name: *const c_char, _flags: c_int, found: *mut c_int) -> c_int {
    // SAFETY: SQLite passes a C string that lives until this returns.
    let Some((disk, name)) = unsafe { text(name) }.and_then(Disk::find) else { return ffi::SQLITE_IOERR_ACCESS };
    // SAFETY: SQLite passes a pointer to its own integer.
    unsafe { *found = c_int::from(disk.lock().platter.has(&name)) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite passes a C string that lives until this returns.
    let Some(name) = (unsafe { text(name) }) else { return ffi::SQLITE_CANTOPEN };
    if usize::try_from(room).is_ok_and(|room| name.len() < room) {
        // SAFETY: `out` has `room` bytes, more than the name and its end; the two do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
            *out.add(name.len()) = 0;
        }
        return ffi::SQLITE_OK;
    }
    ffi::SQLITE_CANTOPEN
}

unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, amount: c_int, out: *mut c_char) -> c_int {
    let Ok(len) = usize::try_from(amount) else { return 0 };
    // SAFETY: `out` has room for `amount` bytes.
    unsafe { std::ptr::write_bytes(out, 7, len) };
    amount
}

unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    micros
}

unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: SQLite passes a pointer to its own number. Nothing that is tested asks for the time.
    unsafe { *out = 2_461_000.5 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn last_error(_: *mut ffi::sqlite3_vfs, _: c_int, _: *mut c_char) -> c_int {
    0
}

/// One process, one connection: there is nobody to lock out.
unsafe extern "C" fn lock(_: *mut ffi::sqlite3_file, _level: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes a pointer to its own integer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _op: c_int, _argument: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::{Connection, OpenFlags};

    #[test]
    fn sqlite_keeps_what_it_wrote_on_a_disk_until_the_power_goes() {
        let disk = Disk::new();
        let open = || {
            let opened = Connection::open_with_flags_and_vfs(disk.path("a.db"), OpenFlags::default(), VFS).unwrap();
            opened.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL").unwrap();
            opened
        };
        let first = open();
        first.execute_batch("CREATE TABLE t (a)").unwrap();
        disk.cut_at(disk.ops() + 3);
        assert!(first.execute("INSERT INTO t VALUES (1)", []).is_err() && disk.is_off());
        disk.power_cycle(Survival::Nothing);
        assert!(first.execute("INSERT INTO t VALUES (2)", []).is_err(), "an open file does not outlive it");
        drop(first);
        let count = open().query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count, 0);
    }
}
