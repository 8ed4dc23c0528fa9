// SPDX-License-Identifier: Apache-2.0

import CLinux

/// What a handler waits for on a descriptor.
public struct Interest: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32

    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// EPOLLIN.
    public static let readable = Interest(rawValue: 0x001)
    /// EPOLLOUT.
    public static let writable = Interest(rawValue: 0x004)
    /// EPOLLRDHUP: the peer has shut down its writing half.
    public static let peerClosed = Interest(rawValue: 0x2000)
    /// EPOLLET: one report a change, so that nothing has to be read to silence the descriptor.
    public static let edgeTriggered = Interest(rawValue: 1 << 31)
}

/// What a descriptor is ready for.
public struct Readiness: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32

    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// EPOLLIN.
    public static let readable = Readiness(rawValue: 0x001)
    /// EPOLLOUT.
    public static let writable = Readiness(rawValue: 0x004)
    /// EPOLLERR: reported whether asked for or not.
    public static let error = Readiness(rawValue: 0x008)
    /// EPOLLHUP: both halves are closed; reported whether asked for or not.
    public static let hangUp = Readiness(rawValue: 0x010)
    /// EPOLLRDHUP: the peer has shut down its writing half.
    public static let peerClosed = Readiness(rawValue: 0x2000)
}

/// Anything that waits for a descriptor.
public protocol EventHandler: AnyObject {
    /// The descriptor is ready. Called on the loop's thread; must not block.
    ///
    /// - Parameters:
    ///   - readiness: what the descriptor is ready for.
    ///   - tag: the number given at registration, to tell one handler's descriptors apart.
    func descriptorReady(_ readiness: Readiness, tag: Int)
}

/// Anything that waits for a moment.
public protocol TimerHandler: AnyObject {
    /// The deadline has passed. Called once a timer, on the loop's thread; must not block.
    ///
    /// - Parameter tag: the number given when the timer was set.
    func timerFired(tag: Int)
}

/// Work that is done once at the end of a turn of the loop, however often it was asked for in it:
/// submitting a batch, publishing used buffers, signalling.
public protocol DeferredWork: AnyObject {
    /// Kept by the loop: whether the work is waiting. Conformers store it and leave it alone.
    var isWorkDeferred: Bool { get set }

    /// Does the work. Called on the loop's thread; may defer other work, and its own again.
    func performDeferredWork()
}
