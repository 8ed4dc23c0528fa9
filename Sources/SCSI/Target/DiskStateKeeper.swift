// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// Keeps what a disk must not forget when the service ends, and lets other services that have the
/// disk see and change it.
///
/// A keeper belongs to its disk's thread; when the disk is closed it is let go, whatever is under way.
public protocol DiskStateKeeper: AnyObject {
    /// Whether other services may have the disk at the same time.
    var isShared: Bool { get }

    /// Changes before what is kept does, whoever changes it; valid as long as the keeper lives.
    var changes: SharedCounter { get }

    /// Has what is kept changed, on another thread, while no other service changes it.
    ///
    /// - Parameters:
    ///   - change: what becomes of the bytes, nil where nothing was ever kept; nil for no change.
    ///     The calls come in the order of the exchanges.
    ///   - whenDone: is called once, on the disk's thread and never from in here, with what `changes`
    ///     said when the change was safe; with nil when it could not be kept.
    func exchange(
        _ change: @escaping @Sendable (_ bytes: [UInt8]?) -> [UInt8]?,
        whenDone: @escaping (UInt64?) -> Void)
}

/// What was kept of a disk, read when its service began.
public struct OpenedDiskState: Sendable {
    let state: DiskState
    let changes: UInt64

    /// Reads what was kept, and forgets what does not outlive the last service that had the disk.
    ///
    /// Any thread may do this.
    ///
    /// - Parameter exchange: calls what it is given once, with the bytes, nil where nothing was ever
    ///   kept, and with whether nobody else has the disk; keeps what that returns unless it is nil.
    ///   Returns what `DiskStateKeeper.changes` says of what is kept now.
    /// - Throws: `DiskStateError`, or what `exchange` throws.
    public init(
        _ exchange: ((_ bytes: [UInt8]?, _ isFirst: Bool) -> [UInt8]?) throws -> UInt64
    ) throws {
        var found: DiskState? = DiskState()
        changes = try exchange { bytes, isFirst in
            if let bytes { found = DiskState(bytes) }
            guard isFirst, let old = found else { return nil }
            found?.powerOn()
            return found == old ? nil : found?.bytes
        }
        guard let found else { throw DiskStateError() }
        state = found
    }
}

/// What was kept for a disk cannot be read.
public struct DiskStateError: Error, CustomStringConvertible {
    public let description = "what was kept of the disk's reservations is damaged"
}
