// SPDX-License-Identifier: Apache-2.0

/// The file that a disk's state is kept in.
///
/// Lines of text: a title; `modes WCE SWP D_SENSE`; `generation NUMBER`; `persists`, where
/// registrations do; `registration KEY PORT NAME`, all three in hexadecimal; `reservation TYPE
/// NUMBER`, by the number of the holder's registration; `message NUMBER ATTENTION PORT NAME`, what
/// a nexus is to be told; and `end SUM`, a checksum of all before it.
extension DiskState {
    private static let title = "vhostd disk state 2"
    /// Has no generation, no messages and only registrations that persist.
    private static let oldTitle = "vhostd disk state 1"

    // MARK: Writing

    var bytes: [UInt8] {
        var lines = [Self.title]
        if let savedModes {
            let flags = [
                savedModes.isWriteCacheEnabled, savedModes.isSoftwareWriteProtected,
                savedModes.hasDescriptorSense,
            ]
            lines.append("modes " + flags.map { $0 ? "1" : "0" }.joined(separator: " "))
        }
        lines.append("generation \(reservations.generation)")
        if reservations.persists { lines.append("persists") }
        for registration in reservations.registrations {
            let key = String(registration.key, radix: 16)
            lines.append("registration \(key) \(Self.text(registration.nexus))")
        }
        if let reservation = reservations.reservation, let number = holderNumber {
            lines.append("reservation \(reservation.kind.rawValue) \(number)")
        }
        for message in messages {
            let attention = message.notice.attention.rawValue
            lines.append(
                "message \(message.number) \(attention) \(Self.text(message.notice.nexus))")
        }
        let text = lines.map { $0 + "\n" }.joined()
        return Array((text + "end \(Self.checksum(of: text))\n").utf8)
    }

    /// The number of the holder's registration, or of any where all registrants hold the unit.
    private var holderNumber: Int? {
        guard let reservation = reservations.reservation else { return nil }
        let registrations = reservations.registrations
        let number = registrations.firstIndex { $0.nexus == reservation.holder }
        return number ?? (reservation.kind.isHeldByAll ? registrations.indices.first : nil)
    }

    private static func text(_ nexus: PersistentReservations.Nexus) -> String {
        let name = nexus.initiator.name.utf8.map { byte in
            (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        return String(nexus.relativePort, radix: 16) + " " + name.joined()
    }

    /// FNV-1a, 64 bits.
    private static func checksum(of text: some StringProtocol) -> String {
        let sum = text.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { sum, byte in
            (sum ^ UInt64(byte)) &* 0x100_0000_01B3
        }
        return String(sum, radix: 16)
    }

    // MARK: Reading

    /// Reads what `bytes` gave; nil when it is anything else.
    init?(_ bytes: [UInt8]) {
        guard let text = String(validating: bytes, as: UTF8.self), text.hasSuffix("\n") else {
            return nil
        }
        var lines = text.dropLast().split(separator: "\n", omittingEmptySubsequences: false)
        guard let end = lines.popLast(), end.hasPrefix("end "),
            end.dropFirst(4) == Self.checksum(of: lines.map { $0 + "\n" }.joined()),
            let title = lines.first, title == Self.title || title == Self.oldTitle
        else { return nil }
        var draft = Draft()
        draft.persists = title == Self.oldTitle
        for line in lines.dropFirst() {
            guard draft.take(line.split(separator: " ", omittingEmptySubsequences: false)) else {
                return nil
            }
        }
        self = draft.state
    }

    /// What was read so far.
    private struct Draft {
        var persists = false
        private var generation: UInt32 = 0
        private var registrations: [PersistentReservations.Registration] = []
        private var reservation: PersistentReservations.Reservation?
        private var savedModes: DiskModes?
        private var messages: [Message] = []

        var state: DiskState {
            DiskState(
                reservations: PersistentReservations(
                    generation: generation, registrations: registrations,
                    reservation: reservation, persists: persists),
                savedModes: savedModes, messages: messages)
        }

        mutating func take(_ fields: [Substring]) -> Bool {
            switch (fields.first, fields.count) {
            case ("modes", 4): takeModes(fields)
            case ("generation", 2):
                guard let number = UInt32(fields[1]) else { return false }
                generation = number
            case ("persists", 1): persists = true
            case ("registration", 4):
                guard let key = UInt64(fields[1], radix: 16), let nexus = Self.nexus(fields[2...])
                else { return false }
                registrations.append(.init(nexus: nexus, key: key))
            case ("reservation", 3):
                guard let kind = UInt8(fields[1]).flatMap(PersistentReservations.Kind.init),
                    let number = Int(fields[2]), registrations.indices.contains(number)
                else { return false }
                reservation = .init(kind: kind, holder: registrations[number].nexus)
            case ("message", 5):
                guard let number = UInt64(fields[1]), number < UInt64.max / 2,
                    let attention = UInt8(fields[2]).flatMap(UnitAttention.init),
                    let nexus = Self.nexus(fields[3...])
                else { return false }
                messages.append(
                    Message(notice: .init(nexus: nexus, attention: attention), number: number))
            default: return false
            }
            return true
        }

        private mutating func takeModes(_ fields: [Substring]) {
            var modes = DiskModes()
            modes.isWriteCacheEnabled = fields[1] == "1"
            modes.isSoftwareWriteProtected = fields[2] == "1"
            modes.hasDescriptorSense = fields[3] == "1"
            savedModes = modes
        }

        /// A port and a name.
        private static func nexus(_ fields: ArraySlice<Substring>) -> PersistentReservations.Nexus?
        {
            guard let first = fields.first, let port = UInt16(first, radix: 16),
                let last = fields.last
            else { return nil }
            let digits = Array(last)
            let name = stride(from: 0, to: digits.count - 1, by: 2).compactMap {
                UInt8(String(digits[$0...$0 + 1]), radix: 16)
            }
            guard 2 * name.count == digits.count, let text = String(validating: name, as: UTF8.self)
            else { return nil }
            return .init(initiator: InitiatorPort(name: text), relativePort: port)
        }
    }
}
