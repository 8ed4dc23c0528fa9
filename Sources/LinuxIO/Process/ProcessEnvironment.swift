// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// What the process was started with.
public enum ProcessEnvironment {
    /// The value of an environment variable; nil when it is not set.
    ///
    /// The corresponding C function is `getenv`.
    public static func variable(_ name: String) -> String? {
        // SAFETY: the string is copied at once; nobody changes the environment while threads run.
        guard let value = unsafe getenv(name) else { return nil }
        return unsafe String(cString: value)
    }

    /// Lets the process open as many descriptors as its hard limit allows: every connection of a
    /// guest needs one.
    ///
    /// The corresponding C function is `setrlimit` with RLIMIT_NOFILE.
    ///
    /// - Returns: how many descriptors may be open now.
    @discardableResult
    public static func raiseDescriptorLimit() -> UInt64 {
        var limit = rlimit()
        // SAFETY: both calls use the one local.
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            return 0
        }
        limit.rlim_cur = limit.rlim_max
        _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return UInt64(limit.rlim_cur)
    }

    /// Survives a front-end that cuts short the file behind guest memory that is mapped: the page
    /// that is touched becomes a page of zeroes of ours, instead of ending the process with SIGBUS.
    ///
    /// The corresponding C functions are `sigaction` and `mmap`.
    ///
    /// - Throws: the errno of sigaction.
    public static func surviveLostMemory() throws(Errno) {
        try systemCall { cl_survive_lost_memory() }
    }

    /// Gives up, for good, what a service has no use for: more rights than it was started with, and,
    /// where the kernel has Landlock, executing programs and making devices, folders, links and pipes.
    ///
    /// To be called before there are other threads.
    ///
    /// The corresponding C functions are `prctl` with PR_SET_NO_NEW_PRIVS and
    /// `landlock_restrict_self`.
    ///
    /// - Returns: whether the kernel has Landlock.
    /// - Throws: the errno.
    @discardableResult
    public static func giveUpRights() throws(Errno) -> Bool {
        try systemCall { cl_give_up_rights() } == 1
    }

    /// Asks this process to end, as SIGTERM from outside would.
    ///
    /// Any thread may call this. The corresponding C function is `kill`.
    public static func askToStop() {
        _ = kill(getpid(), SIGTERM)
    }

    /// Whether SIGTERM or SIGINT waits for the main thread, which blocks them and is busy otherwise.
    ///
    /// The corresponding C function is `sigpending`.
    public static var isAskedToStop: Bool {
        // SAFETY: the set is a local that the calls fill and read.
        var pending = sigset_t()
        guard unsafe sigpending(&pending) == 0 else { return false }
        return unsafe sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1
    }

    /// Gives back the memory of code that only a start needs: the program's, or a session's.
    ///
    /// The corresponding C function is `madvise` with MADV_DONTNEED on the program's text.
    public static func releaseStartUpPages() {
        cl_release_code_pages()
    }
}

/// The path without symbolic links, `.` and `..`, from the root; the path as it is when it names
/// nothing.
///
/// The corresponding C function is `realpath`.
public func canonicalPath(_ path: String) -> String {
    // SAFETY: realpath allocates the string that it returns; it is copied and freed here.
    guard let resolved = unsafe realpath(path, nil) else { return path }
    defer { unsafe free(resolved) }
    return unsafe String(cString: resolved)
}
