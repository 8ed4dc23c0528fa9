// SPDX-License-Identifier: Apache-2.0

import SCSI
import Stores
import Testing

@Suite("A task set")
struct TaskSetTests {
    static let read: [UInt8] = [0x28, 0, 0, 0, 0, 5, 0, 0, 1, 0]

    @Test("has an ORDERED command wait for older ones, and younger ones for it")
    func ordered() {
        let initiator = Initiator()
        let first = initiator.start(Self.read, in: 512)
        let ordered = initiator.start(Self.read, in: 512, attribute: .ordered)
        let last = initiator.start(Self.read, in: 512)
        let head = initiator.start(Self.read, in: 512, attribute: .headOfQueue)
        #expect(initiator.store.pendingCount == 2, "the first one and the HEAD OF QUEUE one")
        initiator.store.end(at: 1)
        initiator.store.end()
        initiator.collect()
        #expect(initiator.order.suffix(2) == [head, first])
        #expect(initiator.store.pendingCount == 1, "the ORDERED one")
        initiator.store.endAll()
        initiator.collect()
        #expect(initiator.order.suffix(2) == [ordered, last])
    }

    @Test("aborts the commands with a tag, which end before the function")
    func abortTask() {
        let initiator = Initiator()
        let aborted = initiator.start(Self.read, in: 512, tag: 7)
        let other = initiator.start(Self.read, in: 512, tag: 8)
        #expect(initiator.manage(.abortTask, tag: 7) == nil, "the store still fills the buffer")
        initiator.store.end()
        #expect(initiator.endedManagement() == .functionComplete)
        #expect(initiator.answers[aborted]?.response == .aborted)
        #expect(initiator.answers[other] == nil)
        initiator.store.end()
        initiator.collect()
        #expect(initiator.answers[other]?.response == .complete)
        #expect(initiator.manage(.abortTask, tag: 7) == .functionComplete, "there is none")
    }

    @Test("aborts waiting commands at once")
    func abortWaiting() {
        let initiator = Initiator()
        initiator.start(Self.read, in: 512, tag: 1)
        let waiting = initiator.start(Self.read, in: 512, attribute: .ordered, tag: 2)
        #expect(initiator.manage(.abortTask, tag: 2) == .functionComplete)
        #expect(initiator.answers[waiting]?.response == .aborted)
    }

    @Test("is emptied by a logical unit reset, which every nexus hears of (6/29/03)")
    func reset() {
        let initiator = Initiator()
        let command = initiator.start(Self.read, in: 512)
        #expect(initiator.manage(.logicalUnitReset) == nil)
        initiator.store.endAll()
        #expect(initiator.endedManagement() == .functionComplete)
        #expect(initiator.answers[command]?.response == .reset)
        let ready: [UInt8] = [0, 0, 0, 0, 0, 0]
        #expect(initiator.send(ready).fixedSense == [6, 0x29, 3])
        #expect(initiator.send(ready).status == .good)
    }

    @Test("is asked about its commands")
    func query() {
        let initiator = Initiator()
        #expect(initiator.manage(.queryTaskSet) == .functionComplete)
        initiator.start(Self.read, in: 512, tag: 3)
        #expect(initiator.manage(.queryTask, tag: 3) == .functionSucceeded)
        #expect(initiator.manage(.queryTask, tag: 4) == .functionComplete)
        #expect(initiator.manage(.queryTaskSet) == .functionSucceeded)
        initiator.store.endAll()
        initiator.collect()
    }

    @Test("that is not there is answered INCORRECT LUN, a target that is not BAD TARGET")
    func absent() {
        let initiator = Initiator()
        let absentUnit = LUNAddress(rawValue: 0x0900_0001)
        #expect(initiator.manage(.abortTask, address: absentUnit) == .incorrectLUN)
        let absentTarget = LUNAddress(rawValue: 0x0501)
        #expect(initiator.manage(.abortTask, address: absentTarget) == .badTarget)
        #expect(initiator.send([0, 0, 0, 0, 0, 0], to: absentTarget).response == .badTarget)
        #expect(initiator.manage(.clearACA) == .functionRejected)
    }
}
