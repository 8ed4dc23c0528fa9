// SPDX-License-Identifier: Apache-2.0

import Kernel
import LinuxIO
import SystemPackage
import Testing

/// Writes down what happens, in order.
final class Recorder: EventHandler, TimerHandler {
    private(set) var events: [String] = []
    var onEvent: (Int) -> Void = { _ in }

    func note(_ event: String) {
        events.append(event)
    }

    func descriptorReady(_ readiness: Readiness, tag: Int) {
        note("ready \(tag)")
        onEvent(tag)
    }

    func timerFired(tag: Int) {
        note("timer \(tag)")
        onEvent(tag)
    }
}

/// Work that is done at the end of a turn.
final class Work: DeferredWork {
    var isWorkDeferred = false
    private let body: () -> Void

    init(_ body: @escaping () -> Void) {
        self.body = body
    }

    func performDeferredWork() {
        body()
    }
}

@Suite("An event loop")
struct EventLoopTests {
    private let clock = ManualClock()
    private let loop: EventLoop
    private let recorder = Recorder()

    init() throws {
        loop = try EventLoop(clock: clock)
    }

    private func turn() throws {
        try loop.turn(waitingAtMost: .zero)
    }

    // MARK: Descriptors

    @Test("reports a descriptor's readiness with the tag that it was given")
    func readiness() throws {
        let counter = try EventCounter()
        try loop.add(counter.descriptor.rawValue, interest: .readable, handler: recorder, tag: 7)
        try turn()
        #expect(recorder.events == [])
        counter.signal()
        try turn()
        #expect(recorder.events == ["ready 7"])
        try turn()
        #expect(recorder.events == ["ready 7", "ready 7"])
        counter.drain()
        try turn()
        #expect(recorder.events.count == 2)
    }

    @Test("reports an edge once, and every signal is an edge")
    func edges() throws {
        let counter = try EventCounter()
        try loop.add(
            counter.descriptor.rawValue, interest: [.readable, .edgeTriggered], handler: recorder)
        for round in 1...3 {
            counter.signal()
            try turn()
            try turn()
            #expect(recorder.events.count == round)
        }
    }

    @Test("reports what it is asked for, from then on")
    func modify() throws {
        let counter = try EventCounter()
        let registration = try loop.add(
            counter.descriptor.rawValue, interest: [], handler: recorder)
        counter.signal()
        try turn()
        #expect(recorder.events == [])
        try loop.modify(registration, interest: .readable)
        try turn()
        #expect(recorder.events == ["ready 0"])
    }

    @Test("reports nothing that the kernel handed over before the registration was removed")
    func staleEvent() throws {
        let first = try EventCounter()
        let second = try EventCounter()
        var registrations: [Registration] = []
        for (tag, number) in [first.descriptor.rawValue, second.descriptor.rawValue].enumerated() {
            registrations.append(
                try loop.add(number, interest: .readable, handler: recorder, tag: tag))
        }
        first.signal()
        second.signal()
        // Whichever comes first removes both.
        recorder.onEvent = { [loop] _ in
            for registration in registrations { loop.remove(registration) }
        }
        try turn()
        #expect(recorder.events.count == 1)
    }

    @Test("gives a slot that is used again no event of its former user")
    func reusedSlot() throws {
        let first = try EventCounter()
        let second = try EventCounter()
        let third = try EventCounter()
        let other = Recorder()
        var registrations: [Registration] = []
        for number in [first.descriptor.rawValue, second.descriptor.rawValue] {
            registrations.append(try loop.add(number, interest: .readable, handler: recorder))
        }
        first.signal()
        second.signal()
        let number = third.descriptor.rawValue
        recorder.onEvent = { [loop] _ in
            for registration in registrations { loop.remove(registration) }
            // Both slots are free now, and an event for one of them is still to be handed out.
            for _ in 0..<2 {
                _ = try? loop.add(number, interest: .readable, handler: other)
            }
        }
        try turn()
        #expect(recorder.events.count == 1)
        #expect(other.events == [])
    }

    @Test("keeps a handler alive that is removed while it runs")
    func removedWhileRunning() throws {
        final class Suicidal: EventHandler {
            var onReady: () -> Void = {}
            private(set) var isWhole = true
            deinit { isWhole = false }
            func descriptorReady(_ readiness: Readiness, tag: Int) {
                onReady()
                #expect(isWhole)
            }
        }
        let counter = try EventCounter()
        weak var gone: Suicidal?
        do {
            let handler = Suicidal()
            gone = handler
            let registration = try loop.add(
                counter.descriptor.rawValue, interest: .readable, handler: handler)
            handler.onReady = { [loop, weak gone] in
                loop.remove(registration)
                #expect(gone != nil)
            }
        }
        #expect(gone != nil)
        counter.signal()
        try turn()
        #expect(gone == nil)
    }

    @Test("lets a handler go at once that is removed between turns")
    func removedBetweenTurns() throws {
        let counter = try EventCounter()
        weak var gone: Recorder?
        let registration: Registration
        do {
            let handler = Recorder()
            gone = handler
            registration = try loop.add(
                counter.descriptor.rawValue, interest: .readable, handler: handler)
        }
        #expect(gone != nil)
        loop.remove(registration)
        #expect(gone == nil)
        loop.remove(registration)
    }

    @Test("holds more registrations than it has room for at first")
    func manyRegistrations() throws {
        var counters: [CounterBox] = []
        for tag in 0..<200 {
            let box = try CounterBox()
            counters.append(box)
            try loop.add(
                box.counter.descriptor.rawValue, interest: [.readable, .edgeTriggered],
                handler: recorder, tag: tag)
        }
        for box in counters { box.counter.signal() }
        while recorder.events.count < 200 { try turn() }
        #expect(Set(recorder.events).count == 200)
    }

    private final class CounterBox {
        let counter: EventCounter
        init() throws { counter = try EventCounter() }
    }

    @Test("refuses a descriptor that cannot be waited for, and goes on")
    func refusal() throws {
        #expect(throws: Errno.badFileDescriptor) {
            try loop.add(-1, interest: .readable, handler: recorder)
        }
        try readiness()
    }

    // MARK: Timers

    @Test("fires timers in order of their deadlines, and of their setting")
    func timerOrder() throws {
        for (tag, delay) in [30, 10, 20, 10, 40].enumerated() {
            loop.setTimer(after: .milliseconds(delay), handler: recorder, tag: tag)
        }
        try turn()
        #expect(recorder.events == [])
        clock.advance(by: .milliseconds(9))
        try turn()
        #expect(recorder.events == [])
        clock.advance(by: .milliseconds(21))
        try turn()
        #expect(recorder.events == ["timer 1", "timer 3", "timer 2", "timer 0"])
        clock.advance(by: .seconds(1))
        try turn()
        try turn()
        #expect(recorder.events.count == 5)
    }

    @Test("forgets a cancelled timer, even in a handler of the same moment")
    func timerCancel() throws {
        let first = loop.setTimer(after: .milliseconds(1), handler: recorder, tag: 1)
        let second = loop.setTimer(after: .milliseconds(1), handler: recorder, tag: 2)
        recorder.onEvent = { [loop] _ in
            loop.cancel(first)
            loop.cancel(second)
        }
        clock.advance(by: .seconds(1))
        try turn()
        #expect(recorder.events == ["timer 1"])
    }

    @Test("fires a timer that a timer sets for now in the next turn, so that it cannot spin")
    func timerFromTimer() throws {
        recorder.onEvent = { [loop, recorder] tag in
            loop.setTimer(after: .zero, handler: recorder, tag: tag + 1)
        }
        loop.setTimer(after: .zero, handler: recorder)
        try turn()
        #expect(recorder.events == ["timer 0"])
        try turn()
        #expect(recorder.events == ["timer 0", "timer 1"])
    }

    @Test("keeps no trace of the timers of many short connections")
    func timerChurn() throws {
        weak var gone: Recorder?
        do {
            let handler = Recorder()
            gone = handler
            for _ in 0..<10_000 {
                loop.cancel(loop.setTimer(after: .seconds(60), handler: handler))
            }
        }
        #expect(gone == nil)
        loop.setTimer(after: .milliseconds(1), handler: recorder, tag: 1)
        clock.advance(by: .milliseconds(1))
        try turn()
        #expect(recorder.events == ["timer 1"])
    }

    @Test("sleeps until the next deadline by the kernel's clock")
    func realTimer() throws {
        let loop = try EventLoop()
        let start = loop.now
        loop.setTimer(after: .milliseconds(20), handler: recorder)
        while recorder.events.isEmpty { try loop.turn(waitingAtMost: .seconds(10)) }
        #expect(loop.now >= start.advanced(byNanoseconds: 20_000_000))
    }

    // MARK: Deferred work

    @Test("does deferred work once a turn, after events and timers, in the order asked for")
    func deferredOrder() throws {
        let counter = try EventCounter()
        try loop.add(counter.descriptor.rawValue, interest: .readable, handler: recorder)
        let second = Work { [recorder] in recorder.note("second") }
        let first = Work { [recorder, loop] in
            recorder.note("first")
            loop.deferWork(second)
        }
        let third = Work { [recorder] in recorder.note("third") }
        recorder.onEvent = { [loop] _ in
            for work in [first, third, first, first] { loop.deferWork(work) }
        }
        loop.setTimer(after: .zero, handler: recorder, tag: 9)
        counter.signal()
        try turn()
        #expect(recorder.events == ["ready 0", "timer 9", "first", "third", "second"])
    }

    @Test("does not sleep on work that was deferred between turns")
    func deferredBetweenTurns() throws {
        let loop = try EventLoop()
        loop.deferWork(Work { [recorder] in recorder.note("done") })
        let start = loop.now
        try loop.turn(waitingAtMost: .seconds(60))
        #expect(recorder.events == ["done"])
        #expect(loop.now < start.advanced(byNanoseconds: 30_000_000_000))
    }

    @Test("looks at its descriptors though work defers itself for ever")
    func deferredForEver() throws {
        let counter = try EventCounter()
        try loop.add(counter.descriptor.rawValue, interest: .readable, handler: recorder)
        counter.signal()
        var again: () -> Void = {}
        let work = Work { again() }
        again = { [loop, unowned work] in loop.deferWork(work) }
        loop.deferWork(work)
        try turn()
        try turn()
        #expect(recorder.events == ["ready 0", "ready 0"])
    }

    // MARK: Stopping

    @Test("ends its run after the turn in which it is told to")
    func stop() throws {
        let loop = try EventLoop()
        loop.deferWork(
            Work { [loop, recorder] in
                loop.stop()
                recorder.note("stopping")
                loop.deferWork(Work { recorder.note("last") })
            })
        try loop.run()
        #expect(recorder.events == ["stopping", "last"])
    }
}
