// SPDX-License-Identifier: Apache-2.0

import Glibc
public import SystemPackage

/// What a system call that may not block came back with.
public enum IOResult: Equatable, Sendable {
    /// The call moved this many bytes (more than none).
    case bytes(Int)
    /// The call would have blocked; wait for readiness.
    case wouldBlock
    /// The peer will send no more (a read of 0 bytes).
    case endOfFile
}

/// Runs a system call again while it is interrupted, and reads errno: the one place that does.
///
/// - Parameter call: returns -1 and sets errno when it fails.
/// - Returns: what the call returned.
/// - Throws: the errno, EAGAIN and EWOULDBLOCK included.
@discardableResult
public func systemCall<Value: SignedInteger>(_ call: () -> Value) throws(Errno) -> Value {
    while true {
        let value = call()
        if value != -1 { return value }
        let code = errno
        if code != EINTR { throw Errno(rawValue: code) }
    }
}

/// Runs a system call once, interrupted or not.
///
/// - Parameter call: returns -1 and sets errno when it fails.
/// - Returns: 0, or the errno.
@inline(__always)
func errnoOfOneTry(_ call: () -> Int) -> Int32 {
    call() == -1 ? errno : 0
}

/// Runs a system call that reads or writes and may say "would block".
///
/// - Parameter call: returns -1 and sets errno when it fails.
/// - Returns: the outcome; a result of 0 is `.endOfFile`.
/// - Throws: every errno but EAGAIN, which is `.wouldBlock`.
public func transfer(_ call: () -> Int) throws(Errno) -> IOResult {
    do {
        let count = try systemCall(call)
        return count == 0 ? .endOfFile : .bytes(count)
    } catch {
        if error == .wouldBlock { return .wouldBlock }
        throw error
    }
}
