// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// Keeps what a disk must not forget when the service ends.
public protocol DiskStateKeeper: AnyObject {
    /// What was kept last; nil when nothing ever was.
    func load() throws -> [UInt8]?

    /// Keeps bytes instead of what was kept last.
    ///
    /// - Returns: whether they are safe now.
    func save(_ bytes: [UInt8]) -> Bool
}

/// What was kept for a disk cannot be read.
public struct DiskStateError: Error, CustomStringConvertible {
    public let description = "what was kept of the disk's reservations is damaged"
}

/// What a disk keeps beyond the end of the service: registrations that are to persist (SPC-4, APTPL),
/// and saved mode parameters.
///
/// Lines of text: a title; `modes WCE SWP D_SENSE`; `registration KEY PORT NAME`, all three in
/// hexadecimal; `reservation TYPE NUMBER`, by the number of the holder's registration; and `end SUM`,
/// a checksum of all before it.
struct DiskState: Equatable {
    private static let title = "vhostd disk state 1"

    var registrations: [PersistentReservations.Registration] = []
    var reservation: PersistentReservations.Reservation?
    var savedModes: DiskModes?

    init() {}

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
        for registration in registrations {
            let name = registration.nexus.initiator.name.utf8.map { byte in
                (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
            let fields = [
                String(registration.key, radix: 16),
                String(registration.nexus.relativePort, radix: 16), name.joined(),
            ]
            lines.append("registration " + fields.joined(separator: " "))
        }
        if let reservation,
            let number = registrations.firstIndex(where: { $0.nexus == reservation.holder })
        {
            lines.append("reservation \(reservation.kind.rawValue) \(number)")
        }
        let text = lines.map { $0 + "\n" }.joined()
        return Array((text + "end \(Self.checksum(of: text))\n").utf8)
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
            lines.first == Self.title[...]
        else { return nil }
        for line in lines.dropFirst() {
            guard take(line.split(separator: " ", omittingEmptySubsequences: false)) else {
                return nil
            }
        }
    }

    private mutating func take(_ fields: [Substring]) -> Bool {
        switch (fields.first, fields.count) {
        case ("modes", 4): return takeModes(fields)
        case ("registration", 4): return takeRegistration(fields)
        case ("reservation", 3):
            guard let kind = UInt8(fields[1]).flatMap(PersistentReservations.Kind.init),
                let number = Int(fields[2]), registrations.indices.contains(number)
            else { return false }
            reservation = .init(kind: kind, holder: registrations[number].nexus)
            return true
        default: return false
        }
    }

    private mutating func takeModes(_ fields: [Substring]) -> Bool {
        var modes = DiskModes()
        modes.isWriteCacheEnabled = fields[1] == "1"
        modes.isSoftwareWriteProtected = fields[2] == "1"
        modes.hasDescriptorSense = fields[3] == "1"
        savedModes = modes
        return true
    }

    private mutating func takeRegistration(_ fields: [Substring]) -> Bool {
        let digits = Array(fields[3])
        let name = stride(from: 0, to: digits.count - 1, by: 2).compactMap {
            UInt8(String(digits[$0...$0 + 1]), radix: 16)
        }
        guard let key = UInt64(fields[1], radix: 16), let port = UInt16(fields[2], radix: 16),
            2 * name.count == digits.count, let text = String(validating: name, as: UTF8.self)
        else { return false }
        registrations.append(
            .init(
                nexus: .init(initiator: InitiatorPort(name: text), relativePort: port), key: key))
        return true
    }
}

extension Disk {
    /// Takes over what was kept of the disk, and keeps it there from now on.
    ///
    /// To be called before the disk is attached.
    ///
    /// - Throws: `DiskStateError`, or what the keeper throws.
    public func keepState(with keeper: any DiskStateKeeper) throws {
        if let bytes = try keeper.load() {
            guard let state = DiskState(bytes) else { throw DiskStateError() }
            savedModes = state.savedModes
            reservations = PersistentReservations(
                registrations: state.registrations, reservation: state.reservation)
        }
        stateKeeper = keeper
        self.state.value.modes = savedModes ?? DiskModes()
    }

    /// Keeps reservations and saved modes.
    ///
    /// - Returns: whether they are safe; true when there is nothing to keep.
    func keep(_ reservations: PersistentReservations, _ modes: DiskModes?) -> Bool {
        guard let stateKeeper else { return true }
        var state = DiskState()
        state.savedModes = modes
        if reservations.persists {
            state.registrations = reservations.registrations
            state.reservation = reservations.reservation
        }
        return stateKeeper.save(state.bytes)
    }

    /// Whether registrations can be kept beyond the end of the service.
    var canPersistReservations: Bool { stateKeeper != nil }
}
