// SPDX-License-Identifier: Apache-2.0

/// Room for bytes on their way to the host, granted to the guest (virtio 1.3 §5.10.6.3).
///
/// The guest may have sent at most `allocation` bytes that are not forwarded yet. A byte is
/// forwarded when the host's socket has taken it, not when it has arrived here: that is what makes
/// the guest wait for a slow reader. Once at a time, what is about to be handed to a socket that has
/// taken everything so far is granted again in advance, so that the guest goes on while it is copied;
/// should the socket not take it, the connection holds up to twice the allocation, and nothing more
/// is granted until that has been made good. The counters run modulo 2^32.
struct HostboundCredit: BitwiseCopyable, Equatable {
    /// Bytes that the guest may have under way (our buf_alloc).
    let allocation: UInt32
    /// Bytes that the guest has sent.
    private(set) var received: UInt32 = 0
    /// Bytes that the host has taken.
    private(set) var forwarded: UInt32 = 0
    /// Bytes behind those that count as forwarded in advance.
    private(set) var advanced: UInt32 = 0
    /// What the guest was last told of `forwardCount`.
    private(set) var reported: UInt32 = 0

    init(allocation: UInt32) {
        self.allocation = allocation
    }

    /// Bytes that have come and are not forwarded yet.
    var held: UInt32 { received &- forwarded }

    /// Our fwd_cnt.
    @inline(__always)
    var forwardCount: UInt32 { forwarded &+ advanced }

    /// Counts bytes that the guest sent; false when it had no credit for them.
    @inline(__always)
    mutating func receive(_ byteCount: UInt32) -> Bool {
        let (sum, overflow) = (received &- forwardCount).addingReportingOverflow(byteCount)
        guard !overflow, sum <= allocation else { return false }
        received &+= byteCount
        return true
    }

    /// Counts bytes that the host took, or that nobody wants any more.
    @inline(__always)
    mutating func forward(_ byteCount: Int) {
        let byteCount = UInt32(truncatingIfNeeded: byteCount)
        forwarded &+= byteCount
        advanced &-= min(advanced, byteCount)
    }

    /// Counts what is held as forwarded in advance, if the guest would then have to be told.
    ///
    /// - Returns: whether that was done; not while an earlier advance has not been made good.
    @inline(__always)
    mutating func advance(guestAllocation: UInt32) -> Bool {
        guard advanced == 0 else { return false }
        advanced = held
        if updateIsDue(guestAllocation: guestAllocation) { return true }
        advanced = 0
        return false
    }

    /// A packet with the present `forwardCount` goes to the guest.
    @inline(__always)
    mutating func report() {
        reported = forwardCount
    }

    /// Whether the guest has to be told of room that it does not know of.
    ///
    /// Linux never has more under way than its own buffer holds, however much we grant, so the
    /// measure is the smaller of the two: told at half of it, and at once when the guest sees no
    /// room at all.
    ///
    /// - Parameter guestAllocation: the guest's own buf_alloc.
    /// - Returns: whether a packet has to go out for that alone.
    @inline(__always)
    func updateIsDue(guestAllocation: UInt32) -> Bool {
        let news = forwardCount &- reported
        if news == 0 { return false }
        let window = max(1, min(allocation, guestAllocation))
        return news >= max(1, window / 2) || received &- reported >= window
    }
}

/// Room for bytes on their way to the guest, granted by it.
///
/// Bytes are counted as virtio 1.3 §5.10.6.3 says. Guests of 2026 count packets as well: each
/// costs the guest more memory than it carries, and a guest resets a connection whose waiting
/// packets cost more than its buffer. Hence at most one outstanding packet for each KiB of the
/// guest's buffer; a packet below 1 KiB that fills the guest's own receive buffer is not counted,
/// because the guest chose that size.
struct GuestboundCredit: BitwiseCopyable, Equatable {
    /// Bytes of the guest's buffer that one outstanding packet stands for.
    private static let bytesPerPacket: UInt32 = 1024
    /// Bytes under way at most, whatever the guest grants: counters that are further apart could
    /// not be told from counters that have wrapped.
    private static let outstandingLimit: UInt32 = 1 << 30

    /// Bytes that we may have under way (the guest's buf_alloc).
    private(set) var allocation: UInt32 = 0
    /// Bytes sent to the guest.
    private(set) var sent: UInt32 = 0
    /// Bytes that the guest has consumed (its fwd_cnt).
    private(set) var acknowledged: UInt32 = 0

    /// Outstanding packets in two groups, the older one complete: a group is done with when the
    /// guest has consumed all of it.
    private var older = PacketGroup()
    private var newer = PacketGroup()

    private struct PacketGroup: BitwiseCopyable, Equatable {
        var count: UInt32 = 0
        /// The value of `sent` behind the last packet of the group.
        var end: UInt32 = 0
    }

    /// Bytes under way.
    @inline(__always)
    var outstanding: UInt32 { sent &- acknowledged }

    /// Bytes that may be sent now.
    ///
    /// None when the guest has shrunk its buffer below what is under way.
    @inline(__always)
    var available: Int { max(0, Int(min(allocation, Self.outstandingLimit)) - Int(outstanding)) }

    /// Packets that may be sent now.
    @inline(__always)
    var availablePackets: Int {
        let limit = max(1, allocation / Self.bytesPerPacket)
        return max(0, Int(limit) - Int(older.count) - Int(newer.count))
    }

    /// Takes the credit fields of a packet from the guest.
    ///
    /// - Returns: false when the guest claims to have consumed more than it was sent.
    @inline(__always)
    mutating func update(allocation: UInt32, forwardCount: UInt32) -> Bool {
        self.allocation = allocation
        let progress = forwardCount &- acknowledged
        if progress == 0 { return true }
        guard progress <= outstanding else {
            // Two processors of the guest may have queued their packets in the other order: a
            // count from before is no claim.
            return Int32(bitPattern: progress) < 0
        }
        acknowledged = forwardCount
        retireGroups()
        return true
    }

    /// Counts a packet that goes to the guest.
    ///
    /// - Parameters:
    ///   - byteCount: bytes of payload, no more than `available`.
    ///   - fillsBuffer: whether the guest's receive buffer has no room for another byte.
    @inline(__always)
    mutating func send(_ byteCount: Int, fillsBuffer: Bool) {
        sent &+= UInt32(truncatingIfNeeded: byteCount)
        if fillsBuffer && byteCount < Int(Self.bytesPerPacket) { return }
        newer.count &+= 1
        newer.end = sent
        if older.count == 0 && newer.count >= max(1, allocation / Self.bytesPerPacket / 2) {
            older = newer
            newer = PacketGroup()
        }
    }

    private mutating func retireGroups() {
        if outstanding == 0 {
            older = PacketGroup()
            newer = PacketGroup()
            return
        }
        if older.count == 0 || isConsumed(older) {
            older = newer
            newer = PacketGroup()
        }
        if isConsumed(older) { older = PacketGroup() }
    }

    private func isConsumed(_ group: PacketGroup) -> Bool {
        Int32(bitPattern: acknowledged &- group.end) >= 0
    }
}
