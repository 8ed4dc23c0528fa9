// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// Refusals that are owed to the guest for packets of no connection.
///
/// The store is as large as the guest's transmit ring; when it is full, no more packets are taken
/// until the guest posts receive buffers (virtio 1.3 §5.10.6.4: what is owed is not dropped).
///
/// Lives on its device's thread.
final class ResetStore {
    private let replies: Slab<VsockHeader>
    private var first = 0
    private(set) var count = 0

    /// An empty store.
    ///
    /// - Parameter capacity: refusals that fit, at least one.
    init(capacity: Int) {
        replies = Slab(count: max(1, capacity)) { _ in VsockHeader() }
    }

    var isFull: Bool { count == replies.count }

    /// The refusal to send next; nil when none is owed.
    var next: VsockHeader? { count > 0 ? replies[first] : nil }

    /// The next refusal has been sent.
    func removeFirst() {
        first = (first + 1) % replies.count
        count -= 1
    }

    func removeAll() {
        first = 0
        count = 0
    }

    /// Refuses a packet: RST from the address that the guest wrote to, in the type that it used
    /// (a guest that waits for an answer looks at both).
    ///
    /// There must be room.
    func refuse(_ packet: VsockHeader) {
        var reply = VsockHeader()
        reply.sourceCID = packet.destinationCID
        reply.destinationCID = packet.sourceCID
        reply.sourcePort = packet.destinationPort
        reply.destinationPort = packet.sourcePort
        reply.type = packet.type
        reply.operation = Operation.reset.rawValue
        replies[(first + count) % replies.count] = reply
        count += 1
    }
}
