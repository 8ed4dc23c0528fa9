// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging

/// What is done after each login, before the first command passes.
extension ISCSISession {
    /// Unit attentions that READ CAPACITY may meet in a row.
    private static let attentionLimit = 16
    private static let illegalRequest: UInt8 = 5

    /// How far the look at the logical unit has come.
    struct Probe {
        var found = ISCSIUnitInformation()
        var attentionCount = 0
        var usesShortCapacity = false
    }

    func beginProbe() {
        phase = .probing
        probe = Probe()
        setTimer(.phase, after: configuration.timeouts.probe)
        ask(.inquiry)
    }

    /// Sends a command of the session's own.
    func ask(_ purpose: ISCSICommand.Purpose) {
        var command: ISCSICommand
        switch purpose {
        case .inquiry:
            command = ISCSICommand(
                token: 0, cdb: (0x1200_0000_6000_0000, 0), direction: .read, byteCount: 96)
        case .identification:
            command = ISCSICommand(
                token: 0, cdb: (0x1201_8303_FC00_0000, 0), direction: .read, byteCount: 1020)
        case .serialNumber:
            command = ISCSICommand(
                token: 0, cdb: (0x1201_8000_FC00_0000, 0), direction: .read, byteCount: 252)
        case .capacity where probe.usesShortCapacity:
            command = ISCSICommand(
                token: 0, cdb: (0x2500_0000_0000_0000, 0), direction: .read, byteCount: 8)
        case .capacity:
            command = ISCSICommand(
                token: 0, cdb: (0x9E10_0000_0000_0000, 0x0000_0000_0020_0000), direction: .read,
                byteCount: 32)
        case .attentionPoll, .owner:
            command = ISCSICommand(token: 0, cdb: (0, 0))
        }
        command.purpose = purpose
        if connection?.issue(command, lun: lunField) == true {
            loop.deferWork(self)
        } else if purpose == .attentionPoll {
            isPollOutstanding = false
        } else {
            failLater(.probeFailed(command: "\(purpose)", reason: "not taken by libiscsi"))
        }
    }

    /// A command of the session's own has ended.
    func ownCommandEnded(_ purpose: ISCSICommand.Purpose, status: Int32, data: RawSpan) {
        let answer = ProbeAnswer(status: status, data: data)
        switch purpose {
        case .inquiry: inquiryEnded(answer, data)
        case .identification:
            if answer.isGood { probe.found.takeIdentification(data) }
            ask(.serialNumber)
        case .serialNumber:
            if answer.isGood { probe.found.takeSerialNumber(data) }
            if probe.found.isBlockDevice { ask(.capacity) } else { endProbe() }
        case .capacity: capacityEnded(answer, data)
        case .attentionPoll:
            isPollOutstanding = false
            if answer.key == SenseData.unitAttention { owner?.unitAttention(answer.sense) }
        case .owner: break
        }
    }

    private func inquiryEnded(_ answer: ProbeAnswer, _ data: RawSpan) {
        if answer.isGood, probe.found.takeInquiry(data) { return ask(.identification) }
        if answer.isGood || answer.key == Self.illegalRequest {
            return failLater(.noSuchLUN(configuration.lun))
        }
        failLater(.probeFailed(command: "INQUIRY", reason: answer.description))
    }

    private func capacityEnded(_ answer: ProbeAnswer, _ data: RawSpan) {
        if answer.isGood {
            probe.found.takeCapacity(data)
        } else if answer.key == SenseData.unitAttention, probe.attentionCount < Self.attentionLimit
        {
            probe.attentionCount += 1
            // At the first login nobody has seen the unit before, and nothing can have changed.
            if loginCount > 0 { owner?.unitAttention(answer.sense) }
            return ask(.capacity)
        } else if answer.key == Self.illegalRequest, !probe.usesShortCapacity {
            probe.usesShortCapacity = true
            return ask(.capacity)
        }
        // A unit without a medium, or one that is reserved, is still the same unit.
        endProbe()
    }

    private func endProbe() {
        let found = probe.found
        if let unit, unit.identity != found.identity {
            return failLater(
                .otherLogicalUnit(expected: unit.identity, found: found.identity))
        }
        let isSame =
            unit.map { $0.blockCount == found.blockCount && $0.blockSize == found.blockSize }
        unit = found
        becomeUp(isSame: isSame ?? false)
    }

    private func becomeUp(isSame: Bool) {
        phase = .up
        cancelTimer(.phase)
        cancelTimer(.replacement)
        loginCount += 1
        hasGivenUp = false
        lastError = nil
        flow.value.isUsedSinceLogin = false
        flow.value.inFlightLimit = configuration.maximumInFlight
        logUp()
        attempt = Attempt(portalIndex: attempt.portalIndex, portal: attempt.portal)
        startKeepAlive()
        owner?.sessionUp(self, isSame: isSame)
        loop.deferWork(self)
    }

    private func logUp() {
        var metadata: Logger.Metadata = [
            "portal": "\(attempt.portal?.description ?? "")", "product": "\(unit?.product ?? "")",
            "waiting": "\(flow.value.pending.count)",
        ]
        if let count = unit?.blockCount {
            metadata["capacity"] = "\(count) blocks of \(unit?.blockSize ?? 0) bytes"
        }
        if let downSince {
            let down = (loop.now.nanoseconds &- downSince.nanoseconds) / 1_000_000
            metadata["down"] = "\(down) ms"
            metadata["attempts"] = "\(attempt.failureCount + 1)"
        }
        log.info("session up", metadata: metadata)
        downSince = nil
        loggedReasons = []
    }

    /// Fails the attempt once the library has returned, from whose callback this is called.
    private func failLater(_ error: ISCSIError) {
        probeError = error
        loop.deferWork(self)
    }
}

/// How a command of the session's own ended.
private struct ProbeAnswer: CustomStringConvertible {
    let isGood: Bool
    /// The sense data, without the length before them.
    let sense: [UInt8]
    private let status: Int32

    init(status: Int32, data: RawSpan) {
        self.status = status
        isGood = status == 0
        sense = status == 2 ? SenseData.bytes(ofResponse: data) : []
    }

    /// The sense key; nil when there is none.
    var key: UInt8? { SenseData(sense)?.key }

    var description: String {
        SenseData(sense)?.description ?? "status \(String(status, radix: 16))h"
    }
}
