// SPDX-License-Identifier: Apache-2.0

import SCSI
import Stores
import Testing

/// Functions where several nexuses and units are.
@Suite("Task management")
struct TaskManagementTests {
    static let read: [UInt8] = [0x28, 0, 0, 0, 0, 5, 0, 0, 1, 0]
    static let ready: [UInt8] = [0, 0, 0, 0, 0, 0]
    static let requestSense: [UInt8] = [3, 0, 0, 0, 18, 0]
    /// LUN 1 of target 0, and LUN 0 of target 1.
    static let second = LUNAddress(rawValue: 0x0100_0001)
    static let other = LUNAddress(rawValue: 0x0101)

    /// One disk that is reached over three nexuses.
    private func initiator() -> Initiator {
        let initiator = Initiator()
        initiator.attach(initiator.disk, target: 0, lun: 1)
        initiator.attach(initiator.disk, target: 1, lun: 0)
        initiator.send(Self.requestSense, in: 18)
        return initiator
    }

    @Test("ABORT TASK SET aborts the commands of its nexus alone")
    func abortTaskSet() {
        let initiator = initiator()
        let own = (0..<2).map { initiator.start(Self.read, in: 512, tag: $0) }
        let others = initiator.start(Self.read, in: 512, to: Self.other)
        #expect(initiator.manage(.abortTaskSet) == nil)
        initiator.store.end()
        #expect(initiator.endedManagement() == nil, "one is still under way")
        initiator.store.end()
        #expect(initiator.endedManagement() == .functionComplete)
        #expect(own.map { initiator.answers[$0]?.response } == [.aborted, .aborted])
        initiator.store.end()
        initiator.collect()
        #expect(initiator.answers[others]?.response == .complete)
        #expect(initiator.send(Self.ready, to: Self.other).status == .good, "nobody is told")
    }

    @Test("CLEAR TASK SET aborts those of every nexus, and the others are told (6/2F/00)")
    func clearTaskSet() {
        let initiator = initiator()
        let own = initiator.start(Self.read, in: 512)
        let others = initiator.start(Self.read, in: 512, to: Self.other)
        let waiting = initiator.start(
            Self.read, in: 512, to: Self.other, attribute: .ordered)
        #expect(initiator.manage(.clearTaskSet) == nil)
        initiator.store.endAll()
        #expect(initiator.endedManagement() == .functionComplete)
        #expect(
            [own, others, waiting].map { initiator.answers[$0]?.response }
                == [.aborted, .aborted, .aborted])
        #expect(initiator.send(Self.ready).status == .good)
        #expect(initiator.send(Self.ready, to: Self.other).fixedSense == [6, 0x2F, 0])
        #expect(initiator.send(Self.ready, to: Self.second).status == .good)
    }

    @Test("I_T NEXUS RESET ends what came through its target, at every unit (6/29/07)")
    func nexusReset() {
        let initiator = initiator()
        let first = initiator.start(Self.read, in: 512)
        let second = initiator.start(Self.read, in: 512, to: Self.second)
        let other = initiator.start(Self.read, in: 512, to: Self.other)
        #expect(initiator.manage(.iTNexusReset) == nil)
        initiator.store.endAll()
        #expect(initiator.endedManagement() == .functionComplete)
        #expect(
            [first, second, other].map { initiator.answers[$0]?.response }
                == [.reset, .reset, .complete])
        #expect(initiator.send(Self.ready).fixedSense == [6, 0x29, 7])
        #expect(initiator.send(Self.ready, to: Self.second).fixedSense == [6, 0x29, 7])
        #expect(initiator.send(Self.ready, to: Self.other).status == .good)
    }

    @Test("a unit reset ends the commands of every nexus, and each is told (6/29/03)")
    func unitReset() {
        let initiator = initiator()
        let commands = [LUNAddress(rawValue: 1), Self.second, Self.other].map {
            initiator.start(Self.read, in: 512, to: $0)
        }
        #expect(initiator.manage(.logicalUnitReset, address: Self.other) == nil)
        initiator.store.endAll()
        #expect(initiator.endedManagement() == .functionComplete)
        #expect(
            commands.map { initiator.answers[$0]?.response } == [.reset, .reset, .reset])
        for address in [LUNAddress(rawValue: 1), Self.second, Self.other] {
            #expect(initiator.send(Self.ready, to: address).fixedSense == [6, 0x29, 3])
        }
    }

    @Test("a command that has been aborted moves no data that it is told of")
    func abortedResidual() throws {
        let initiator = initiator()
        let index = initiator.start(Self.read, in: 512, tag: 9)
        #expect(initiator.manage(.abortTask, tag: 9) == nil)
        initiator.store.endAll()
        initiator.collect()
        let answer = try #require(initiator.answers[index])
        #expect(answer.data.isEmpty && answer.residual == 512 && !answer.isOverrun)
    }

    // MARK: What else initiators are told

    @Test("unit attentions are told one by one, the most important first (SAM-5)")
    func order() {
        let initiator = Initiator()
        for attention in UnitAttention.allCases.reversed() {
            initiator.bus.raise(attention, for: initiator.disk)
            initiator.bus.raise(attention, for: initiator.disk)
        }
        let told = (0..<12).map { _ in
            let sense = initiator.send(Self.requestSense, in: 18).data
            return [sense[2], sense[12], sense[13]]
        }
        #expect(
            told == [
                [6, 0x29, 0x00], [6, 0x29, 0x03], [6, 0x29, 0x07], [6, 0x2F, 0x00],
                [6, 0x3F, 0x0E], [6, 0x28, 0x00], [6, 0x2A, 0x09], [6, 0x2A, 0x01],
                [6, 0x2A, 0x03], [6, 0x2A, 0x04], [6, 0x2A, 0x05], [0, 0x00, 0x00],
            ])
    }

    @Test("REPORT LUNS is told at once, and takes 6/3F/0E off; 15 bytes are too few for it")
    func reportLUNs() {
        let initiator = Initiator()
        let cdb: [UInt8] = [0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]
        initiator.attach(initiator.disk, target: 0, lun: 1)
        #expect(initiator.send(cdb, in: 32).data[3] == 16)
        #expect(initiator.send(Self.ready).status == .good)
        initiator.attach(initiator.disk, target: 0, lun: 2)
        #expect(initiator.send(Self.ready).fixedSense == [6, 0x3F, 0x0E])
        let short: [UInt8] = [0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0]
        #expect(initiator.send(short, in: 32).fixedSense == [5, 0x24, 0])
    }

    @Test("a number that no unit has answers REPORT LUNS, and REQUEST SENSE with 5/25/00")
    func absentUnit() {
        let initiator = Initiator()
        let absent = LUNAddress(rawValue: 0x0500_0001)
        let list = initiator.send([0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], in: 16, to: absent)
        let zeroes = [UInt8](repeating: 0, count: 12)
        #expect(list.status == .good && list.data == [0, 0, 0, 8] + zeroes)
        let sense = initiator.send(Self.requestSense, in: 18, to: absent)
        #expect(sense.status == .good)
        #expect([sense.data[2], sense.data[12], sense.data[13]] == [5, 0x25, 0])
        #expect(initiator.send(Self.read, in: 512, to: absent).fixedSense == [5, 0x25, 0])
    }
}
