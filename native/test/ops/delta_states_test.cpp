// Where states of the delta net begin and what is kept of them on the way: copies, zeros, snapshots, in both forms and on
// every instruction set.

#include "delta_world.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

/** Runs a test on every instruction set, with the heads of a key together and apart. */
template <typename Body>
void everywhere(Body body) {
  for (const OpsTable* t : tables()) {
    for (const int threads : {1, 7}) {
      TestFor par(threads, 1);
      body(*t, par);
    }
  }
}

/** S and the convolution's rows of a slot, without what lies between slots. */
Floats stateIn(const Net& net, int64_t index) {
  Floats slot = net.slot(index);
  slot.resize(static_cast<size_t>(net.deltaFloats() + net.convFloats()));
  return slot;
}

void setSlot(Net& net, int64_t index, const Floats& values) {
  std::copy(values.begin(), values.end(), net.state.begin() + index * net.slotFloats());
}

/** A slot whose content must not be read. */
void spoil(Net& net, int64_t index) {
  setSlot(net, index, Floats(stateIn(net, index).size(), std::numeric_limits<float>::quiet_NaN()));
}

/** What is in no slot is untouched, and so are slots that the batch does not name. */
void checkRest(const Net& net, const std::vector<int64_t>& written) {
  const auto slots = static_cast<int64_t>(2 * net.lengths.size() + 1);
  for (int64_t i = 0; i < slots; ++i) {
    const bool own = std::find(written.begin(), written.end(), i) != written.end();
    for (int64_t f = own ? net.deltaFloats() + net.convFloats() : 0; f < net.slotFloats(); ++f) {
      const auto at = static_cast<size_t>(i * net.slotFloats() + f);
      CHECK(net.state[at] == net.initial[at]);
    }
  }
}

/** Several snapshots in one batch: what is computed has the same bits, and each snapshot those of a run cut there. */
void checkSnapshots(Net net, const OpsTable& t, TestFor& par) {
  const std::vector<Piece> plain = {{0, 0, 210}, {1, 0, 70, kModeRecurrent}, {2, 0, 5, kModeRecurrent}};
  net.reset();
  const Floats expected = net.run(t, par, plain);
  const Floats states[] = {net.slotState(0), net.slotState(1), net.slotState(2)};
  const std::vector<std::vector<int32_t>> cuts = {{64, 1, 2}, {128, 63, 5}, {192, 64, 1}, {64, 70, 3}};
  for (const std::vector<int32_t>& rows : cuts) {
    std::vector<Piece> pieces = plain;
    for (size_t i = 0; i < pieces.size(); ++i) {
      pieces[i].snapshotSlot = static_cast<int32_t>(2 * i);
      pieces[i].snapshotRows = rows[i];
    }
    net.reset();
    CHECK_SAME_BITS(net.run(t, par, pieces), expected, "output beside a snapshot");
    checkRest(net, {0, 1, 2, 3, 4, 5});
    Net cut = net;
    cut.reset();
    for (size_t i = 0; i < plain.size(); ++i) {
      CHECK_SAME_BITS(net.slotState(static_cast<int64_t>(i)), states[i], "state beside a snapshot");
      Piece head = plain[i];
      head.to = rows[i];
      cut.run(t, par, {head});
      const auto slot = static_cast<int64_t>(2 * i);
      CHECK_SAME_BITS(stateIn(net, slot), stateIn(cut, slot + 1), "snapshot");
    }
  }
}

/** A beginning is worth what it would be in the sequence's own slot, which is not read; a batch may share one. */
void checkBeginnings(Net net, const OpsTable& t, TestFor& par) {
  for (const int32_t mode : {kModeChunked, kModeRecurrent}) {
    for (const int64_t rows : {1, 3, 70}) {
      const int64_t few = std::min<int64_t>(rows, 5);
      for (const int32_t init : {kInitZeros, 4}) {
        const Floats begin = init >= 0 ? stateIn(net, init) : Floats(stateIn(net, 0).size());
        net.reset();
        setSlot(net, 1, begin);
        setSlot(net, 5, begin);
        const Floats expected = net.run(t, par, {{0, 0, rows, mode}, {2, 0, few, mode}});
        const Floats state = net.slotState(0), other = net.slotState(2);
        net.reset();
        spoil(net, 1);
        spoil(net, 5);
        const Floats got = net.run(t, par, {{0, 0, rows, mode, init}, {2, 0, few, mode, init}});
        CHECK_SAME_BITS(got, expected, "output after a beginning");
        CHECK_SAME_BITS(net.slotState(0), state, "state after a beginning");
        CHECK_SAME_BITS(net.slotState(2), other, "state after a shared beginning");
        checkRest(net, {1, 5});
      }
    }
  }
}

/** A sequence from nothing leaves snapshots of its first rows, from which others go on as it does itself. */
void checkForks(Net net, const OpsTable& t, TestFor& par) {
  const int64_t width = net.valueWidth();
  for (const int32_t mode : {kModeChunked, kModeRecurrent}) {
    for (const int32_t at : {1, 2, 64, 128}) {
      if (mode == kModeChunked && at % kDeltaChunk != 0) continue;
      net.reset();
      const Floats whole = net.run(t, par, {{0, 0, 210, mode, kInitZeros, 2, at}});
      const Floats end = stateIn(net, 1), kept = stateIn(net, 2);
      spoil(net, 1);
      const Floats rest = net.run(t, par, {{1, 0, 70, kModeRecurrent, 2}, {0, at, 210, mode, 2}});
      const Floats expected(whole.begin() + at * width, whole.end());
      CHECK_SAME_BITS(Floats(rest.begin() + 70 * width, rest.end()), expected, "fork");
      CHECK_SAME_BITS(stateIn(net, 1), end, "state of a fork");
      CHECK_SAME_BITS(stateIn(net, 2), kept, "the fork's beginning");
    }
  }
}

}  // namespace

int main() {
  const std::vector<int64_t> lengths = {210, 70, 5};
  const std::vector<Net> nets = {Net({1, 1, 8, 8}, lengths), Net({2, 4, 24, 40}, lengths),
                                 Net({2, 2, 32, 72}, lengths, 0.3f, 2), Net({1, 3, 8, 24}, lengths, 0.3f, 8)};
  const auto eachNet = [&](void (*check)(Net, const OpsTable&, TestFor&)) {
    for (const Net& net : nets) everywhere([&](const OpsTable& t, TestFor& par) { check(net, t, par); });
  };
  runTest("snapshots", [&] { eachNet(checkSnapshots); });
  runTest("beginnings", [&] { eachNet(checkBeginnings); });
  runTest("forks", [&] { eachNet(checkForks); });
  return 0;
}
