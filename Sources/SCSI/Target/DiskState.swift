// SPDX-License-Identifier: Apache-2.0

/// What a disk keeps: registrations and the reservation (SPC-4, Persistent reservations), and saved
/// mode parameters.
///
/// It is one for all services that have the disk. It outlives the last of them, except for
/// registrations that are not to persist (APTPL): they last as long as any service has the disk, as
/// they would in a disk whose initiators come and go while its power is on.
struct DiskState: Equatable, Sendable {
    /// What a nexus has to be told, wherever it is.
    struct Message: Equatable {
        let notice: PersistentReservations.Notice
        /// Grows from message to message.
        let number: UInt64
    }

    var reservations = PersistentReservations()
    var savedModes: DiskModes?
    /// The last message of each kind to each nexus.
    private(set) var messages: [Message] = []
    /// The number of the last message.
    private(set) var lastMessage: UInt64 = 0

    init() {}

    init(reservations: PersistentReservations, savedModes: DiskModes?, messages: [Message]) {
        self.reservations = reservations
        self.savedModes = savedModes
        self.messages = messages
        lastMessage = messages.map(\.number).max() ?? 0
    }

    /// The first service that has the disk begins: what was not to persist is gone.
    mutating func powerOn() {
        reservations.powerOn()
        messages = []
        lastMessage = 0
    }

    /// Leaves messages for nexuses.
    mutating func tell(_ notices: [PersistentReservations.Notice]) {
        for notice in notices {
            lastMessage += 1
            messages.removeAll { $0.notice == notice }
            messages.append(Message(notice: notice, number: lastMessage))
        }
    }

    /// The messages after a number, oldest first.
    func messages(after number: UInt64) -> [PersistentReservations.Notice] {
        messages.filter { $0.number > number }.map(\.notice)
    }
}
