#include "hadal/chat/stop_strings.h"

#include <gtest/gtest.h>

namespace hadal::chat {
namespace stop_strings_test {
namespace {

TEST(StopStrings, NoPartOfOneIsShownHoweverTheTextIsCut) {
  const std::string text = "one STO two STOP three";
  for (std::size_t i = 0; i <= text.size(); ++i)
    for (std::size_t j = i; j <= text.size(); ++j) {
      StopStrings stops({"STOP", "", "xx"});
      std::string shown = stops.push(text.substr(0, i));
      EXPECT_EQ(std::string("one STO two ").substr(0, shown.size()), shown);
      shown += stops.push(text.substr(i, j - i));
      shown += stops.push(text.substr(j));
      shown += stops.finish();
      EXPECT_EQ(shown, "one STO two ");
      EXPECT_TRUE(stops.stopped());
    }
}

TEST(StopStrings, NoneEndsInTextThatMayNotStop) {
  StopStrings stops({"STOP", "TO"});
  EXPECT_EQ(stops.push("a STOP b ", false), "a STOP b ");
  EXPECT_EQ(stops.push("STO", false), "");
  EXPECT_EQ(stops.push("x", true), "STOx");
  EXPECT_EQ(stops.push("c STO", false), "c ");
  EXPECT_EQ(stops.push("P d", true), "");
  EXPECT_EQ(stops.found(), "STOP");
  StopStrings whole({"STOP"});
  EXPECT_EQ(whole.push("STOP", false), "STOP");
  EXPECT_EQ(whole.push(" STOP", true), " ");
  EXPECT_TRUE(whole.stopped());
}

TEST(StopStrings, WhatWasHeldBackComesAtTheEnd) {
  StopStrings stops({"###"});
  EXPECT_EQ(stops.push("a##"), "a");
  EXPECT_EQ(stops.finish(), "##");
  EXPECT_FALSE(stops.stopped());
}

}  // namespace
}  // namespace stop_strings_test
}  // namespace hadal::chat
