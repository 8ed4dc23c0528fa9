// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Synchronization
import SystemPackage

/// A device with its thread, as the main thread sees it.
struct Device: Sendable {
    let name: String
    let thread: LoopThread<any DeviceHost>
}

/// Asks device threads from the main one, and hears their answers there, without waiting.
final class Inquiries {
    /// How long a device may take to answer.
    static let patience = Duration.seconds(5)

    /// A question to several devices.
    private struct Round {
        var silent: [Int: Device]
        var answers: [DeviceAnswer]
        let timer: TimerToken
        let whenAnswered: ([DeviceAnswer]) -> Void
    }

    private let loop: EventLoop
    private let letters: AnswerBox
    private var rounds: [Int: Round] = [:]
    private var nextRound = 0

    /// Listens for answers on the main thread's loop, as long as that lives.
    init(loop: EventLoop) throws {
        self.loop = loop
        letters = try AnswerBox()
        try loop.add(
            letters.wakeUp.descriptor.rawValue, interest: [.readable, .edgeTriggered],
            handler: self)
    }

    /// Asks devices, and calls back once, when all have answered or time is up.
    func ask(
        _ devices: [Device], _ question: DeviceQuestion,
        whenAnswered: @escaping ([DeviceAnswer]) -> Void
    ) {
        if devices.isEmpty { return whenAnswered([]) }
        let number = nextRound
        nextRound += 1
        var silent: [Int: Device] = [:]
        for (index, device) in devices.enumerated() { silent[index] = device }
        rounds[number] = Round(
            silent: silent, answers: [],
            timer: loop.setTimer(after: Self.patience, handler: self, tag: number),
            whenAnswered: whenAnswered)
        for (index, device) in devices.enumerated() {
            device.thread.post { [letters] host in
                host.answer(question) { letters.put($0, round: number, device: index) }
            }
        }
    }

    private func finish(_ number: Int) {
        guard let round = rounds.removeValue(forKey: number) else { return }
        loop.cancel(round.timer)
        round.whenAnswered(
            round.answers + round.silent.values.map { .silent(device: $0.name) })
    }
}

extension Inquiries: EventHandler, TimerHandler {
    /// Answers have come.
    func descriptorReady(_ readiness: Readiness, tag: Int) {
        letters.wakeUp.drain()
        for letter in letters.takeAll() {
            guard rounds[letter.round]?.silent.removeValue(forKey: letter.device) != nil else {
                continue
            }
            rounds[letter.round]?.answers.append(letter.answer)
            if rounds[letter.round]?.silent.isEmpty == true { finish(letter.round) }
        }
    }

    /// A device has not answered in time.
    func timerFired(tag: Int) {
        finish(tag)
    }
}

/// Answers on their way to the main thread.
private final class AnswerBox: Sendable {
    struct Letter: Sendable {
        let round: Int
        let device: Int
        let answer: DeviceAnswer
    }

    private let letters = Mutex<[Letter]>([])
    let wakeUp: EventCounter

    init() throws(Errno) {
        wakeUp = try EventCounter()
    }

    /// Any thread may call this.
    func put(_ answer: DeviceAnswer, round: Int, device: Int) {
        letters.withLock { $0.append(Letter(round: round, device: device, answer: answer)) }
        wakeUp.signal()
    }

    func takeAll() -> [Letter] {
        letters.withLock { letters in
            let taken = letters
            letters = []
            return taken
        }
    }
}
