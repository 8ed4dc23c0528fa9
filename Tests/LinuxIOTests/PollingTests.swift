// SPDX-License-Identifier: Apache-2.0

import Kernel
import LinuxIO
import Testing

/// Something to poll: each look takes a microsecond of the clock.
private final class Look: Pollable {
    private let clock: ManualClock
    private(set) var count = 0
    private(set) var sleepCount = 0
    /// Whether the look of this number, counted from 1, finds something.
    var finds: (Int) -> Bool = { _ in false }
    var hasNewsBeforeSleep = false
    var awaitsCompletions = false

    init(_ clock: ManualClock) {
        self.clock = clock
    }

    func poll() -> Bool {
        clock.advance(by: .microseconds(1))
        count += 1
        return finds(count)
    }

    func prepareToSleep() -> Bool {
        sleepCount += 1
        return hasNewsBeforeSleep
    }

    /// The looks since the last time.
    func takeCount() -> Int {
        defer { count = 0 }
        return count
    }
}

@Suite("A loop that polls")
final class PollingTests {
    private let clock = ManualClock()
    private let loop: EventLoop
    private let look: Look
    private let recorder = Recorder()
    private let counter: EventCounter

    init() throws {
        loop = try EventLoop(clock: clock)
        loop.pollLimit = .microseconds(50)
        look = Look(clock)
        loop.add(look)
        counter = try EventCounter()
        try loop.add(
            counter.descriptor.rawValue, interest: [.readable, .edgeTriggered], handler: recorder)
    }

    /// A turn that an event ends which comes after so long a sleep; how often the loop has looked.
    private func looks(sleeping microseconds: Int) throws -> Int {
        recorder.onEvent = { [clock] _ in clock.advance(by: .microseconds(microseconds)) }
        counter.signal()
        try loop.turn(waitingAtMost: .seconds(60))
        return look.takeCount()
    }

    @Test("looks once, then longer and longer up to its limit, while waits are short")
    func grows() throws {
        // Each look takes 1 us: a window of 4 us is four of them after the first.
        #expect(try (0..<6).map { _ in try looks(sleeping: 2) } == [1, 5, 9, 17, 33, 51])
    }

    @Test("looks no longer than its limit allows")
    func limit() throws {
        for _ in 0..<20 { #expect(try looks(sleeping: 1) <= 51) }
        loop.pollLimit = .microseconds(2)
        #expect(try (0..<4).map { _ in try looks(sleeping: 1) } == [1, 3, 1, 3])
    }

    @Test("looks only once after a wait that was longer than the limit")
    func shrinks() throws {
        for _ in 0..<4 { _ = try looks(sleeping: 2) }
        #expect(try (0..<3).map { _ in try looks(sleeping: 60) } == [33, 1, 1])
        #expect(try (0..<3).map { _ in try looks(sleeping: 2) } == [1, 5, 9])
    }

    @Test("needs no processor time for waits that are all longer than the limit")
    func idle() throws {
        for _ in 0..<100 { #expect(try looks(sleeping: 1000) == 1) }
    }

    @Test("learns for waits that follow work under way apart from those for new work")
    func kinds() throws {
        for _ in 0..<5 { _ = try looks(sleeping: 2) }
        look.awaitsCompletions = true
        for _ in 0..<10 { #expect(try looks(sleeping: 1000) == 1) }
        look.awaitsCompletions = false
        #expect(try looks(sleeping: 2) == 51)
        look.awaitsCompletions = true
        #expect(try (0..<4).map { _ in try looks(sleeping: 2) } == [1, 5, 9, 17])
    }

    @Test("does not look at all unless it may")
    func off() throws {
        loop.pollLimit = .zero
        for _ in 0..<4 { #expect(try looks(sleeping: 10) == 0) }
        #expect(look.sleepCount == 0)
    }

    @Test("does not sleep when a look finds something, and does what was deferred")
    func found() throws {
        look.finds = { [unowned loop, recorder] number in
            if number == 1 { loop.deferWork(Work { recorder.note("done") }) }
            return number == 1
        }
        try loop.turn(waitingAtMost: .seconds(60))
        #expect(recorder.events == ["done"])
        #expect(look.sleepCount == 0)
    }

    @Test("has everybody ask to be woken before it sleeps, and stays awake if that finds something")
    func beforeSleep() throws {
        look.hasNewsBeforeSleep = true
        try loop.turn(waitingAtMost: .seconds(60))
        #expect(look.sleepCount == 1)
    }

    @Test("looks at its descriptors every sixteenth turn though each look finds something")
    func descriptors() throws {
        look.finds = { _ in true }
        counter.signal()
        for _ in 0..<15 { try loop.turn(waitingAtMost: nil) }
        #expect(recorder.events == [])
        try loop.turn(waitingAtMost: nil)
        #expect(recorder.events == ["ready 0"])
    }

    @Test("looks once in a turn that does not wait")
    func deferred() throws {
        for _ in 0..<4 { _ = try looks(sleeping: 2) }
        loop.deferWork(Work {})
        try loop.turn(waitingAtMost: .seconds(60))
        #expect(look.takeCount() == 1)
    }

    @Test("fires a timer that falls due while it looks, and looks no longer")
    func timer() throws {
        for _ in 0..<4 { _ = try looks(sleeping: 2) }
        loop.setTimer(after: .microseconds(3), handler: recorder, tag: 5)
        try loop.turn(waitingAtMost: .seconds(60))
        #expect(recorder.events.last == "timer 5")
        #expect(look.takeCount() == 3)
        #expect(look.sleepCount == 4)
    }

    @Test("looks no more at what was removed, be it from within")
    func removal() throws {
        look.finds = { [unowned loop, unowned look] _ in
            loop.remove(look)
            return true
        }
        try loop.turn(waitingAtMost: .seconds(60))
        try loop.turn(waitingAtMost: .zero)
        #expect(look.takeCount() == 1)
    }
}
