// SPDX-License-Identifier: Apache-2.0

/// A descriptor's place in an event loop: a slot and its generation, not the descriptor's number,
/// so that an event for a closed and reused number reaches nobody.
public struct Registration: Hashable, Sendable {
    let index: UInt32
    let generation: UInt32

    /// The 64 bits that epoll keeps beside the descriptor.
    var token: UInt64 { UInt64(generation) << 32 | UInt64(index) }
}

/// A timer that was set and may be cancelled.
public struct TimerToken: Hashable, Sendable {
    let identifier: UInt64
}

/// One slot of the loop's table.
struct RegistrationSlot {
    var handler: (any EventHandler)?
    var tag = 0
    var generation: UInt32 = 1
    var descriptor: Int32 = -1
}
