// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Synchronization
import Virtio

/// The way from a ring to its seat: a call where both live on one thread, else a letter.
enum SeatPost {
    case here(RingSeat)
    case away(QueueServerAddress, SeatPlace)

    /// Whether the seat is on another thread.
    var isAway: Bool {
        switch self {
        case .here: false
        case .away: true
        }
    }

    /// Has something done with the seat: now, or on its own thread after what was posted before.
    func post(_ letter: @escaping @Sendable (RingSeat) -> Void) {
        switch self {
        case .here(let seat): letter(seat)
        case .away(let address, let place):
            address.post { server in letter(place.seat(of: server)) }
        }
    }

    /// The last letter: the seat goes, on its own thread.
    func close() {
        if case .away(let address, let place) = self {
            address.post { _ in place.close() }
        }
    }
}

/// The last of several orders for a seat: one that comes before the one before was read takes its place.
final class LatestOrder<Order>: Sendable {
    private let order = Mutex<Handover<Order>?>(nil)

    /// Gives an order; the caller does not touch it any more.
    ///
    /// - Returns: whether the last one was read, so that the seat has to be told.
    func put(_ order: Order) -> Bool {
        let handover = Handover(order)
        return self.order.withLock { present in
            defer { present = handover }
            return present == nil
        }
    }

    /// Reads the order; called on the seat's thread.
    func take() -> Order? {
        order.withLock { present in
            defer { present = nil }
            return present
        }?.take()
    }
}

/// Where a seat is kept that lives on another thread than its ring.
///
/// SAFETY: (Sendable, unchecked) letters carry the place; what is in it is made, used and given up on
/// the server's thread only, where they are opened.
final class SeatPlace: @unchecked Sendable {
    private let index: Int
    private let ring: OwnerAddress<Ring>
    private var seat: RingSeat?

    /// A place for the seat of a ring; called on the ring's thread.
    init(index: Int, ring: OwnerAddress<Ring>) {
        self.index = index
        self.ring = ring
    }

    /// The seat, which the first letter makes.
    func seat(of server: any QueueServer) -> RingSeat {
        if let seat { return seat }
        let made = RingSeat(index: index, handler: server, loop: server.loop, ring: ring)
        seat = made
        return made
    }

    func close() {
        seat?.unwatch()
        seat = nil
    }
}

/// The way from a seat to an object on its ring's thread: a call where that is the seat's, too, else
/// a letter.
struct OwnerAddress<Object: AnyObject & SendableMetatype>: Sendable {
    private let object: ThreadBound<Object>
    private let mailbox: Mailbox?

    /// - Parameters:
    ///   - object: not kept; letters that come when it has gone are dropped.
    ///   - mailbox: of the object's loop; nil where the seat lives on the same.
    init(_ object: Object, mailbox: Mailbox?) {
        self.object = ThreadBound(object)
        self.mailbox = mailbox
    }

    /// Whether the object lives on another thread.
    var isAway: Bool { mailbox != nil }

    /// Has something done with the object: now, or on its own thread after what was posted before.
    func post(_ letter: @escaping @Sendable (Object) -> Void) {
        guard let mailbox else {
            if let object = object.object { letter(object) }
            return
        }
        mailbox.post { [object] in
            if let object = object.object { letter(object) }
        }
    }
}
